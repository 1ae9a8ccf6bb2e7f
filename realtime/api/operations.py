"""What clients change over the API: they start, cancel and retry workflows, and drain pools and workers.

Each operation is answered with the position of its event. With an `Idempotency-Key`, it happens once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from ninja import Router

from orchestration import services
from orchestration.identifiers import is_identifier
from orchestration.models import Pool, Workflow
from orchestration.sdk.launch import LaunchError, launch_by_name
from realtime.api import operation_bodies as bodies
from realtime.api.clients import Permissions, admit, log_source
from realtime.api.idempotency import Answer, RequestKey, answer_once, key_of_request
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.auth.policy import ResourceType
from realtime.auth.security_log import log_security_event
from realtime.database import in_report_thread
from realtime.eventlog.position import current_position
from realtime.events.recorder import Recorded, RecordedEvent, record_events
from realtime.protocol.payload import encode_data
from realtime.protocol.problems import ProblemCode

router = Router(tags=["Operations"])

Result = dict[str, Any]

WORKFLOW_CREATED: Final = "workflow.created"


def admit_operation(request: HttpRequest, resource_type: ResourceType, resource_id: str) -> Identity:
    """Check that the client may operate a resource whose id is in the path."""
    identity = admit(request, "operate", resource_type, resource_id).identity
    if not is_identifier(resource_id):
        raise Problem(ProblemCode.NOT_FOUND, f"{resource_type.capitalize()} {resource_id[:128]!r} not found")
    return identity


async def operate(
    request: HttpRequest, identity: Identity, act: Callable[[], Result], *, what: str, about: str
) -> HttpResponse:
    """Run an operation once for its `Idempotency-Key`, in one transaction with its answer.

    Args:
        request: The request.
        identity: Who sends it.
        act: Calls a service, and returns the answer without `changed`, `seq` and `epoch`.
        what: The operation, for the log.
        about: The prefix of the names of its events, such as `workflow.`.
    """
    key = key_of_request(request, identity)
    answer = await in_report_thread(answer_once, key, partial(_changes, act, about))
    if not answer.is_replayed:
        _log(request, identity, what)
    return answer.response()


def _log(request: HttpRequest, identity: Identity, what: str) -> None:
    log_security_event(
        "operated", what, user_id=identity.user_id, token_id=identity.token_id, source=log_source(request)
    )


def _changes(act: Callable[[], Result], about: str, recorded: Recorded) -> Callable[[Recorded], Answer]:
    try:
        result = act()
    except services.IllegalTransition as error:
        if error.current != error.requested or error.rule:
            raise
        # It has the requested status already.
        result = {f"{error.kind}_id": error.id, "status": error.current}
    return lambda written: Answer(200, _encoded(result, written.written, about))


def _encoded(result: Result, events: Sequence[RecordedEvent], about: str) -> str:
    """Return the text of an answer, with the position of the last event of the operation's own resource."""
    position = current_position()
    own = [event.seq for event in events if event.name.startswith(about)]
    seq = own[-1] if own else position.seq
    return encode_data({**result, "changed": bool(own), "seq": seq, "epoch": position.epoch})


@router.post(
    "workflows",
    response={201: bodies.WorkflowChange},
    operation_id="start_workflow",
    summary="Start a workflow",
)
async def start_workflow(request: HttpRequest, body: bodies.StartBody) -> HttpResponse:
    """Start a workflow by the name of its definition. Permission: `operate:NAME`, and `pool:write:ID` for a new pool.

    An `Idempotency-Key` becomes the key of the run: it is good for as long as the run is kept.
    """
    permissions = admit(request, "operate", "definition", body.name)
    identity = permissions.identity
    key = key_of_request(request, identity)
    # Not with a stored answer: the function of the workflow must not run in a transaction.
    key_of_run = None if key is None else _key_of_run(key)
    answer = await sync_to_async(_start)(body, key_of_run, partial(_check_pool, permissions))
    if not answer.is_replayed:
        _log(request, identity, f"start {body.name}")
    return answer.response()


def _key_of_run(key: RequestKey) -> str:
    user = hashlib.blake2b(key.user_id.encode(), digest_size=6).hexdigest()
    return f"api:{user}:{key.key}"


def _check_pool(permissions: Permissions, pool_id: str) -> None:
    """Check that a run may start in this pool: it is created if it does not exist.

    Raises:
        Problem: with `FORBIDDEN`.
    """
    if not Pool.objects.filter(pk=pool_id).exists():
        permissions.check("write", "pool", pool_id)


def _start(body: bodies.StartBody, key: str | None, check_pool: Callable[[str], None]) -> Answer:
    if body.pool_id is not None:
        check_pool(body.pool_id)
    with record_events() as recorded:
        try:
            run = launch_by_name(
                body.name,
                prompt=body.prompt,
                params=body.params,
                key=key,
                pool=body.pool_id,
                workflow_id=body.workflow_id,
            )
        except LaunchError as error:
            if isinstance(error.__cause__, services.KeyConflict):
                raise _reused_key(error.__cause__.workflow_id) from error
            raise
    status = Workflow.objects.values_list("status", flat=True).get(pk=run.workflow_id)
    if body.workflow_id not in (None, run.workflow_id):
        raise _reused_key(run.workflow_id)
    result = {"workflow_id": run.workflow_id, "status": status}
    has_started = any(event.name == WORKFLOW_CREATED for event in recorded.events)
    return Answer(201, _encoded(result, recorded.events, "workflow."), is_replayed=not has_started)


def _reused_key(workflow_id: str) -> Problem:
    detail = f"Workflow {workflow_id} was started with this key, and with another body"
    return Problem(ProblemCode.KEY_REUSED, detail, fields={"workflow_id": workflow_id})


@router.post(
    "workflows/{workflow_id}/cancel",
    response=bodies.WorkflowChange,
    operation_id="cancel_workflow",
    summary="Cancel a workflow",
)
async def cancel_workflow(
    request: HttpRequest, workflow_id: str, body: bodies.CancelBody | None = None
) -> HttpResponse:
    """Cancel a workflow, with its unfinished stages. Permission: `operate:ID`."""
    identity = admit_operation(request, "workflow", workflow_id)

    def act() -> Result:
        reason = "" if body is None else body.reason
        return workflow_result(services.cancel_workflow(workflow_id=workflow_id, reason=reason))

    return await operate(request, identity, act, what=f"cancel workflow:{workflow_id}", about="workflow.")


@router.post(
    "workflows/{workflow_id}/retry",
    response=bodies.WorkflowChange,
    operation_id="retry_workflow",
    summary="Retry a workflow",
)
async def retry_workflow(request: HttpRequest, workflow_id: str, body: bodies.RetryBody | None = None) -> HttpResponse:
    """Run the uncompleted stages of a finished workflow again. Permission: `operate:ID`."""
    identity = admit_operation(request, "workflow", workflow_id)

    def act() -> Result:
        options = {} if body is None else body.model_dump()
        try:
            return workflow_result(services.retry_run(workflow_id=workflow_id, **options))
        except services.InvalidArgument as error:
            if error.argument != "workflow_id":
                raise
            raise Problem(ProblemCode.CONFLICT, f"Workflow {workflow_id} is not run by the engine") from error

    return await operate(request, identity, act, what=f"retry workflow:{workflow_id}", about="workflow.")


def workflow_result(workflow: Workflow) -> Result:
    """Return what an operation answers about a workflow."""
    return {"workflow_id": workflow.pk, "status": workflow.status}


@router.post("pools/{pool_id}/drain", response=bodies.PoolChange, operation_id="drain_pool", summary="Drain a pool")
async def drain_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Let a pool finish its workflows and accept no new ones. Permission: `operate:ID`."""
    return await _change_pool(request, pool_id, "drain", services.drain_pool)


@router.post("pools/{pool_id}/reopen", response=bodies.PoolChange, operation_id="reopen_pool", summary="Reopen a pool")
async def reopen_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Let a draining pool accept new workflows again. Permission: `operate:ID`."""
    return await _change_pool(request, pool_id, "reopen", services.reopen_pool)


async def _change_pool(request: HttpRequest, pool_id: str, verb: str, service: Callable[..., Any]) -> HttpResponse:
    identity = admit_operation(request, "pool", pool_id)

    def act() -> Result:
        pool = service(pool_id=pool_id)
        return {"pool_id": pool.pk, "status": pool.status}

    return await operate(request, identity, act, what=f"{verb} pool:{pool_id}", about="pool.")


@router.post(
    "workers/{worker_id}/drain",
    response=bodies.WorkerChange,
    operation_id="drain_worker",
    summary="Drain the process of a worker",
)
async def drain_worker(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Let no worker of the process start another stage. Permission: `operate:ID`."""
    identity = admit_operation(request, "worker", worker_id)

    def act() -> Result:
        drained = services.drain_worker(worker_id=worker_id)
        status = next((worker.status for worker in drained if worker.pk == worker_id), "offline")
        return {"worker_id": worker_id, "status": status, "workers": [worker.pk for worker in drained]}

    return await operate(request, identity, act, what=f"drain worker:{worker_id}", about="worker.")
