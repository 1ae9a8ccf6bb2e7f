"""Signed links that answer one question, once, without another permission: for mail and chat."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.core import signing
from django.utils import timezone

from orchestration import services
from orchestration.models import Wait
from orchestration.models.wait import MAX_ANSWERED_BY_LENGTH
from orchestration.plan import check_seconds
from orchestration.services.validation import text

LINK_PATH: Final = "/api/v1/waits/"
DEFAULT_VALID_SECONDS: Final = 7 * 86400.0

_SALT: Final = "orchestration.answer_link"


class InvalidLink(Exception):
    """A link is not one of this server, or its time is over."""


class LinkExpired(InvalidLink):
    """The time of a link is over."""


@dataclass(frozen=True, slots=True)
class AnswerLink:
    """What a link answers.

    Attributes:
        wait_id: The primary key of the wait: a link is void when its stage asks again.
        workflow_id: The run.
        name: The name of the wait.
        by: Who answers with it.
    """

    wait_id: int
    workflow_id: str
    name: str
    by: str


def make_link(workflow_id: str, name: str, *, by: str = "", valid_seconds: float = DEFAULT_VALID_SECONDS) -> str:
    """Return the path of a link that answers an open question of a run. `Run.answer_link` describes the arguments.

    Raises:
        InvalidDefinition: if `valid_seconds` is no duration, or is too long.
        orchestration.services.InvalidArgument: if `by` is too long, so that no answer could be stored with it.
        orchestration.services.WaitNotFound: if the run does not ask that now.
    """
    check_seconds("valid_seconds", valid_seconds)
    by = text("by", by, max_length=MAX_ANSWERED_BY_LENGTH)
    wait = Wait.objects.open_questions().filter(workflow_id=workflow_id, name=name).only("pk").first()
    if wait is None:
        raise services.WaitNotFound(workflow_id, name)
    until = timezone.now() + timedelta(seconds=valid_seconds)
    content = {"wait": wait.pk, "workflow": workflow_id, "name": name, "by": by, "until": until.timestamp()}
    return f"{LINK_PATH}{signing.dumps(content, salt=_SALT)}"


def read_link(token: str) -> AnswerLink:
    """Return what the token at the end of a link answers.

    Raises:
        InvalidLink: if it was not made with the key of this server.
        LinkExpired: if its time is over.
    """
    try:
        content: dict[str, Any] = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise InvalidLink("Unknown answer link; expected one that this server made, as a whole") from None
    if timezone.now().timestamp() >= content["until"]:
        raise LinkExpired("The time of this answer link is over; ask for a new one")
    return AnswerLink(content["wait"], content["workflow"], content["name"], content["by"])
