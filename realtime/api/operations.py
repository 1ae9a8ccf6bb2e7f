"""What clients change over the API: they start, cancel and retry workflows, and drain pools and workers.

Each operation runs in the thread of its request, and is answered with the position of its event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from ninja import Router

from orchestration import services
from orchestration.identifiers import is_identifier
from orchestration.models import Workflow
from orchestration.sdk.launch import launch_by_name
from realtime.api import schemas
from realtime.api.clients import address_of, admit
from realtime.api.problems import Problem, ProblemCode
from realtime.auth.identity import Identity
from realtime.auth.policy import ResourceType
from realtime.auth.security_log import log_security_event
from realtime.eventlog.position import current_position
from realtime.events.recorder import Recorded, record_events
from realtime.protocol.payload import encode_data

router = Router(tags=["Operations"])

Answer = dict[str, Any]


def _admit(request: HttpRequest, resource_type: ResourceType, resource_id: str) -> Identity:
    """Check that the client may operate a resource whose id is in the path."""
    identity = admit(request, "operate", resource_type, resource_id)
    if not is_identifier(resource_id):
        raise Problem(ProblemCode.NOT_FOUND, f"{resource_type.capitalize()} {resource_id[:128]!r} not found")
    return identity


async def _operate(
    request: HttpRequest,
    identity: Identity,
    act: Callable[[], Answer],
    *,
    what: str,
    about: str,
    status: int = 200,
) -> HttpResponse:
    """Run an operation in a thread, and return its answer with `changed`, `seq` and `epoch`.

    Args:
        request: The request.
        identity: Who sends it.
        act: Calls a service, and returns the rest of the answer.
        what: The operation, for the log.
        about: The prefix of the names of its events, such as `workflow.`.
        status: The status of the response.
    """
    answer = await sync_to_async(_recorded)(act, about)
    if answer["changed"]:
        source = f"the API from {address_of(request).owner or 'a Unix socket'}"
        log_security_event("operated", what, user_id=identity.user_id, token_id=identity.token_id, source=source)
    return HttpResponse(encode_data(answer), status=status, content_type="application/json")


def _recorded(act: Callable[[], Answer], about: str) -> Answer:
    with record_events() as recorded:
        try:
            answer = act()
        except services.IllegalTransition as error:
            if error.current != error.requested or error.rule:
                raise
            # It has the requested status already.
            answer = {f"{error.kind}_id": error.id, "status": error.current}
    position = current_position()
    seq = _own_seq(recorded, about)
    return {
        **answer,
        "changed": seq is not None,
        "seq": position.seq if seq is None else seq,
        "epoch": position.epoch,
    }


def _own_seq(recorded: Recorded, about: str) -> int | None:
    """Return the position of the last event of the operation's own resource; None if nothing changed."""
    own = [event.seq for event in recorded.events if event.name.startswith(about)]
    return own[-1] if own else None


@router.post(
    "workflows",
    response={201: schemas.WorkflowChange},
    operation_id="start_workflow",
    summary="Start a workflow",
)
async def start_workflow(request: HttpRequest, body: schemas.StartBody) -> HttpResponse:
    """Start a workflow by the name of its definition. Permission: `operate:NAME`."""
    identity = admit(request, "operate", "definition", body.name)

    def act() -> Answer:
        run = launch_by_name(
            body.name, prompt=body.prompt, params=body.params, pool=body.pool_id, workflow_id=body.workflow_id
        )
        status = Workflow.objects.values_list("status", flat=True).get(pk=run.workflow_id)
        return {"workflow_id": run.workflow_id, "status": status}

    return await _operate(request, identity, act, what=f"start {body.name}", about="workflow.", status=201)


@router.post(
    "workflows/{workflow_id}/cancel",
    response=schemas.WorkflowChange,
    operation_id="cancel_workflow",
    summary="Cancel a workflow",
)
async def cancel_workflow(
    request: HttpRequest, workflow_id: str, body: schemas.CancelBody | None = None
) -> HttpResponse:
    """Cancel a workflow, with its unfinished stages. Permission: `operate:ID`."""
    identity = _admit(request, "workflow", workflow_id)

    def act() -> Answer:
        reason = "" if body is None else body.reason
        return _workflow(services.cancel_workflow(workflow_id=workflow_id, reason=reason))

    return await _operate(request, identity, act, what=f"cancel workflow:{workflow_id}", about="workflow.")


@router.post(
    "workflows/{workflow_id}/retry",
    response=schemas.WorkflowChange,
    operation_id="retry_workflow",
    summary="Retry a workflow",
)
async def retry_workflow(request: HttpRequest, workflow_id: str, body: schemas.RetryBody | None = None) -> HttpResponse:
    """Run the uncompleted stages of a finished workflow again. Permission: `operate:ID`."""
    identity = _admit(request, "workflow", workflow_id)

    def act() -> Answer:
        from_stage = None if body is None else body.from_stage
        try:
            return _workflow(services.retry_run(workflow_id=workflow_id, from_stage=from_stage))
        except services.InvalidArgument as error:
            raise Problem(ProblemCode.CONFLICT, f"Workflow {workflow_id} is not run by the engine") from error

    return await _operate(request, identity, act, what=f"retry workflow:{workflow_id}", about="workflow.")


def _workflow(workflow: Workflow) -> Answer:
    return {"workflow_id": workflow.pk, "status": workflow.status}


@router.post("pools/{pool_id}/drain", response=schemas.PoolChange, operation_id="drain_pool", summary="Drain a pool")
async def drain_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Let a pool finish its workflows and accept no new ones. Permission: `operate:ID`."""
    return await _change_pool(request, pool_id, "drain", services.drain_pool)


@router.post("pools/{pool_id}/reopen", response=schemas.PoolChange, operation_id="reopen_pool", summary="Reopen a pool")
async def reopen_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Let a draining pool accept new workflows again. Permission: `operate:ID`."""
    return await _change_pool(request, pool_id, "reopen", services.reopen_pool)


async def _change_pool(request: HttpRequest, pool_id: str, verb: str, service: Callable[..., Any]) -> HttpResponse:
    identity = _admit(request, "pool", pool_id)

    def act() -> Answer:
        pool = service(pool_id=pool_id)
        return {"pool_id": pool.pk, "status": pool.status}

    return await _operate(request, identity, act, what=f"{verb} pool:{pool_id}", about="pool.")


@router.post(
    "workers/{worker_id}/drain",
    response=schemas.WorkerChange,
    operation_id="drain_worker",
    summary="Drain the process of a worker",
)
async def drain_worker(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Let no worker of the process start another stage. Permission: `operate:ID`."""
    identity = _admit(request, "worker", worker_id)

    def act() -> Answer:
        drained = services.drain_worker(worker_id=worker_id)
        status = next((worker.status for worker in drained if worker.pk == worker_id), "offline")
        return {"worker_id": worker_id, "status": status, "workers": [worker.pk for worker in drained]}

    return await _operate(request, identity, act, what=f"drain worker:{worker_id}", about="worker.")
