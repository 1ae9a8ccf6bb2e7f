"""Keys of starts: the same key starts a definition once, with one prompt and the same parameters."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from orchestration.models import Workflow
from orchestration.models.workflow import MAX_KEY_LENGTH
from orchestration.secret_mask import MASK
from orchestration.services import validation
from orchestration.services.errors import ServiceError
from orchestration.services.secrets import SecretsUnreadable, unsealed

DEFAULTS: Final = "defaults"
"""What the stored plan calls the names of parameters that the caller of the start did not give."""


class KeyConflict(ServiceError):
    """The definition was started with this key before, but with another prompt or other parameters.

    Attributes:
        key: The key.
        workflow_id: The workflow that was started with it.
        differences: What that workflow has instead, such as `failures=3`.
    """

    def __init__(self, key: str, workflow_id: str, differences: tuple[str, ...]) -> None:
        self.key = key
        self.workflow_id = workflow_id
        self.differences = differences
        super().__init__(key, workflow_id, differences)

    def __str__(self) -> str:
        return (
            f"Key {self.key} was used for workflow {self.workflow_id} with {', '.join(self.differences)}; "
            "expected the same prompt and parameters, or another key."
        )


def started_before(workflow: Workflow, key: str | None, secrets: Mapping[str, Any]) -> Workflow | None:
    """Return the stored workflow with the key of this new one, if any.

    Args:
        workflow: The new workflow, which is not stored.
        key: The key as the caller gave it.
        secrets: Its secrets.

    Raises:
        KeyConflict: if it was started with another prompt or other parameters.
    """
    existing = Workflow.objects.filter(key=workflow.key).first() if workflow.key else None
    if existing is not None and (differences := tuple(_differences(existing, workflow, secrets))):
        raise KeyConflict(str(key), existing.pk, differences)
    return existing


def _differences(existing: Workflow, workflow: Workflow, secrets: Mapping[str, Any]) -> Iterator[str]:
    if existing.prompt != workflow.prompt:
        yield f"prompt={reprlib.repr(existing.prompt)}"
    for name in sorted(_given(existing) | _given(workflow)):
        if name not in existing.params:
            yield f"no {name}"
        elif name not in workflow.params or existing.params[name] != workflow.params[name]:
            yield f"{name}={reprlib.repr(existing.params[name])}"
        elif name in secrets and secrets[name] != _secret_of(existing, name):
            yield f"{name}={MASK}"


def _secret_of(workflow: Workflow, name: str) -> Any:
    """Return a secret of a run; None, which differs from every secret, if this process cannot read it."""
    try:
        return unsealed(workflow).get(name)
    except SecretsUnreadable:
        return None


def _given(workflow: Workflow) -> set[str]:
    """Return the names of the parameters that the caller of a start has given."""
    return set(workflow.params).difference((workflow.plan or {}).get(DEFAULTS, ()))


def stored_sub_run_key(name: str, stage_id: int, generation: int, key: str) -> str:
    """Return the key of a sub-run as it is stored. No key that a caller of a start gives is stored like this."""
    # An escaped name has no percent sign before a colon.
    return validation.text("key", f"%:{stored_key(name, f'{stage_id}/{generation}/{key}')}", max_length=MAX_KEY_LENGTH)


def stored_key(name: str, key: str) -> str:
    """Return a key of a definition as it is stored, unique among those of all definitions."""
    # The first colon ends the name: `a` with the key `b:c` is not `a:b` with the key `c`.
    escaped_name = name.replace("%", "%25").replace(":", "%3A")
    return validation.text("key", f"{escaped_name}:{key}", max_length=MAX_KEY_LENGTH)
