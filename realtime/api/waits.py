"""Answers and signals over the API: of clients with a permission, and of those who have a link."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from ninja import Router

from orchestration import services
from orchestration.identifiers import IDENTIFIER_EXPECTED, is_identifier
from orchestration.sdk.answer_links import InvalidLink, LinkExpired, read_link
from orchestration.sdk.answers import convert_answer, convert_payload
from realtime.api import operation_bodies as bodies
from realtime.api.clients import address_of, check_rate
from realtime.api.operations import Result, admit_operation, operate, workflow_result
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.protocol.problems import ProblemCode

router = Router(tags=["Operations"])


@router.post(
    "workflows/{workflow_id}/waits/{name}/answer",
    response=bodies.WorkflowChange,
    operation_id="answer_wait",
    summary="Answer what a workflow asks",
)
async def answer_wait(request: HttpRequest, workflow_id: str, name: str, body: bodies.AnswerBody) -> HttpResponse:
    """Answer a stage that asks, or will ask: the first valid answer wins. Permission: `operate:ID`."""
    identity = admit_operation(request, "workflow", workflow_id)
    _check_name(name)
    # Not in the transaction of the operation: it may import the module of the form.
    answer = await sync_to_async(convert_answer)(workflow_id, name, body.answer, wait_id=body.wait_id)

    def act() -> Result:
        return workflow_result(
            services.answer_wait(
                workflow_id=workflow_id, name=name, answer=answer, by=identity.user_id, wait_id=body.wait_id
            )
        )

    return await operate(request, identity, act, what=f"answer {name} of workflow:{workflow_id}", about="workflow.")


@router.post(
    "workflows/{workflow_id}/signals/{name}",
    response=bodies.WorkflowChange,
    operation_id="send_signal",
    summary="Send a signal to a workflow",
)
async def send_signal(request: HttpRequest, workflow_id: str, name: str, body: bodies.SignalBody) -> HttpResponse:
    """Send a signal: the stage that waits for it takes it, or the next one that does. Permission: `operate:ID`."""
    identity = admit_operation(request, "workflow", workflow_id)
    _check_name(name)
    payload = await sync_to_async(convert_payload)(workflow_id, name, body.payload)

    def act() -> Result:
        return workflow_result(
            services.send_signal(workflow_id=workflow_id, name=name, payload=payload, by=identity.user_id)
        )

    return await operate(request, identity, act, what=f"signal {name} to workflow:{workflow_id}", about="workflow.")


@router.post(
    "waits/{token}",
    response=bodies.WorkflowChange,
    operation_id="answer_link",
    summary="Answer with a link",
    auth=None,
)
async def answer_link(request: HttpRequest, token: str, body: bodies.LinkAnswerBody) -> HttpResponse:
    """Answer the one question for which a link was made. The link is the permission, until it expires or is used."""
    identity = Identity(user_id="", permissions=())
    request.auth = identity  # type: ignore[attr-defined]
    check_rate(request)
    try:
        link = read_link(token)
    except LinkExpired as error:
        raise Problem(ProblemCode.WAIT_EXPIRED, str(error)) from None
    except InvalidLink as error:
        raise Problem(ProblemCode.NOT_FOUND, str(error)) from None
    answer = await sync_to_async(convert_answer)(link.workflow_id, link.name, body.answer, wait_id=link.wait_id)

    def act() -> Result:
        return workflow_result(
            services.answer_wait(
                workflow_id=link.workflow_id, name=link.name, answer=answer, by=link.by, wait_id=link.wait_id
            )
        )

    what = f"answer {link.name} of workflow:{link.workflow_id} by a link from {address_of(request).owner}"
    return await operate(request, identity, act, what=what, about="workflow.")


def _check_name(name: str) -> None:
    if not is_identifier(name):
        expected = f"expected {IDENTIFIER_EXPECTED}"
        errors = [{"path": "path.name", "detail": expected}]
        raise Problem(ProblemCode.INVALID_PARAMETERS, f"name: {expected}", errors=errors)
