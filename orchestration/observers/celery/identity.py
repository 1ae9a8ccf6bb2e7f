"""The ids and names that rows of an observed application have here.

An id that Celery's application or a stranger chose may have any text. One that fits the grammar of ids stays readable;
any other becomes a hash, which begins with `_` and so equals no readable one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from orchestration.identifiers import MAX_IDENTIFIER_LENGTH
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.text import escape_line, storable, truncate

MAX_PREFIX_LENGTH: Final = 32
PREFIX_EXPECTED: Final = f"1 to {MAX_PREFIX_LENGTH} of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit"

MAX_NAME_CHARACTERS: Final = 64
"""Length of the readable part of an id. A longer one becomes a hash."""

SHORT_ID_CHARACTERS: Final = 13
"""Length of the part of a task's id that its stage is named with: the first 48 bits of a random UUID."""

_PREFIX: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_PREFIX_LENGTH - 1}}}")
_QUEUE: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_CHARACTERS - 1}}}")
# A host name has no underscore, so an underscore in place of `@` is unique.
_NODE: Final = re.compile(rf"(?=.{{1,{MAX_NAME_CHARACTERS}}}\Z)[A-Za-z0-9][A-Za-z0-9.-]*@[A-Za-z0-9.-]+")
# Without a dot: that begins the number of a part.
_TASK: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]{{0,{MAX_NAME_CHARACTERS - 1}}}")
# Of the other versions, the beginning may be equal for many: a time, for example.
_RANDOM_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_HASH_CHARACTERS: Final = 32

assert MAX_PREFIX_LENGTH + MAX_NAME_CHARACTERS + len("-.99999") <= MAX_IDENTIFIER_LENGTH


def is_prefix(text: str) -> bool:
    """Check whether ids may begin with this text."""
    return _PREFIX.fullmatch(text) is not None


def text_hash(text: str) -> str:
    """Return a hash of any text, also of one with half a surrogate pair."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of one observed application. All begin with its prefix.

    Attributes:
        prefix: What `is_prefix` accepts.
    """

    prefix: str

    def pool_id(self, queue: str) -> str:
        """Return the id of the pool of a queue."""
        return self._id(queue if _QUEUE.fullmatch(queue) else _hashed(queue))

    def worker_id(self, hostname: str) -> str:
        """Return the id of the worker with this node name, such as `celery_box` of `celery@box`."""
        return self._id(hostname.replace("@", "_") if _NODE.fullmatch(hostname) else _hashed(hostname))

    def workflow_id(self, root_id: str, part: int = 1) -> str:
        """Return the id of the workflow of a task tree, or of a later part of it."""
        name = root_id if _TASK.fullmatch(root_id) else _hashed(root_id)
        return self._id(name if part == 1 else f"{name}.{part}")

    def part_of(self, workflow_id: str) -> tuple[str, int]:
        """Return the id of the first part of a workflow of this application, and the number of this part."""
        start = len(self.prefix)
        name, dot, number = workflow_id[start:].partition(".")
        return workflow_id[:start] + name, int(number) if dot and number.isdigit() else 1

    def unknown_pool_id(self) -> str:
        """Return the id of the pool of workers that have not said which queues they serve."""
        return self._id("_unknown")

    def _id(self, name: str) -> str:
        return f"{self.prefix}-{name}"


def short_id(task_id: str) -> str:
    """Return what identifies a task in the name of its stage."""
    readable = task_id if _RANDOM_UUID.fullmatch(task_id) else text_hash(task_id)
    return readable[:SHORT_ID_CHARACTERS]


def stage_name(task_name: str, task_id: str) -> str:
    """Return the name of the stage of a task: what runs, and its short id."""
    room = MAX_STAGE_NAME_LENGTH - SHORT_ID_CHARACTERS - 1
    return f"{line(task_name, room) or 'unknown'} {short_id(task_id)}"


def line(text: str, max_characters: int) -> str:
    """Return a text from the broker as one line that every database, log and page can show."""
    # Cut first: an escape is longer than what it stands for, and the text may have megabytes.
    return truncate(escape_line(storable(text[:max_characters])), max_characters).strip()


def _hashed(text: str) -> str:
    return f"_{text_hash(text)}"
