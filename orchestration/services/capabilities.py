"""What stages need, and what the live worker processes of a pool lack, as far as that is known.

A worker finds out that it lacks something when it is offered a stage that needs it. That is stored for both: the name
is added to the requirements of the stage, and to those that the worker does not meet. A process may be able to run a
stage if it is not known to lack one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Exists, F, FilteredRelation, OuterRef, Q, QuerySet

from orchestration.db.postgres_session import lock_if_free
from orchestration.models import FailureReason, Stage, UnmetRequirement, Worker
from orchestration.models.workflow import MAX_NEEDS_LENGTH
from orchestration.services.errors import ServiceError
from orchestration.text import truncate

MAX_UNMET_REQUIREMENTS: Final = 10_000
"""How many requirements are remembered that a worker does not meet. The oldest is dropped."""

MAX_STAGE_REQUIREMENTS: Final = 32
"""How many requirements of a stage are remembered. A stage with more may be offered to workers that lack the others."""

NOT_RUNNABLE_SECONDS: Final = 600.0
"""How long a process does not try a stage again that has found something missing, unless another has completed."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a stage needs and a worker lacks.

    Attributes:
        name: One line, the same for every worker that lacks it, such as `shop.workflows:load` or `release 2`.
        reason: Why this worker lacks it, such as the error of a module; may be empty.
    """

    name: str
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", truncate(" ".join(self.name.split()), MAX_NEEDS_LENGTH))

    def __str__(self) -> str:
        return truncate(f"{self.name} ({self.reason})" if self.reason else self.name, MAX_NEEDS_LENGTH)


FindMissing = Callable[[Stage], Requirement | None]
"""Returns what a worker lacks to run a stage; None if nothing."""


def nothing_missing(stage: Stage) -> Requirement | None:
    """Return None: the worker can run every stage."""
    return None


class StageNotRunnable(ServiceError):
    """A worker cannot run a stage: it lacks something that the stage needs, or has another release."""

    def __init__(self, worker_id: str, needs: str) -> None:
        self.worker_id = worker_id
        self.needs = needs
        super().__init__(worker_id, needs)

    def __str__(self) -> str:
        return f"Worker {self.worker_id} cannot run the stage: it needs {self.needs}."


class Capabilities:
    """What the live worker processes of pools may be able to run.

    Args:
        pool_ids: The pools.
        names: The requirements of which `may_run()` is asked; None means any.
    """

    def __init__(self, pool_ids: Collection[str | None], names: Collection[str] | None = None) -> None:
        self._unmet: dict[tuple[str, str, str], set[str]] = {}
        """The requirements that a process does not meet, by its pool, its release and its id."""
        # With an empty list, the condition would exclude the workers too.
        asked = Q() if names is None else Q(unmet_requirements__name__in=[*names, ""])
        workers = (
            accepting_workers()
            .filter(pool_id__in=pool_ids)
            .annotate(unmet=FilteredRelation("unmet_requirements", condition=asked), unmet_name=F("unmet__name"))
        )
        for pool_id, release, process, name in workers.values_list("pool_id", "release", "process", "unmet_name"):
            unmet = self._unmet.setdefault((pool_id, release, process), set())
            if name is not None:
                unmet.add(name)

    def may_run(self, pool_id: str | None, release: str, names: Collection[str]) -> bool:
        """Return whether a process of the pool may meet these requirements of a stage, and has the release, if any."""
        return any(
            unmet.isdisjoint(names)
            for (pool, of_release, _), unmet in self._unmet.items()
            if pool == pool_id and release in ("", of_release)
        )


def accepting_workers() -> QuerySet[Worker]:
    """Return the workers that may take new stages: slots of the live processes of the engine."""
    return Worker.objects.filter(draining=False).exclude(process="")


def find_known_missing(worker: Worker, stage: Stage, *, at: datetime) -> Requirement | None:
    """Return the release that a stage needs, or what the process of a worker lacked at a recent attempt at the stage.

    None if it may run the stage, as far as that is known.
    """
    release = stage.workflow.release
    if release and release != worker.release:
        return Requirement(f"release {release}")
    if not stage.attempt:
        return None
    # Its slots may have joined at different times. An earlier process may have had the same ids.
    slots = Worker.objects.filter(pk=OuterRef("worker_name"), process=worker.process)
    unmet = UnmetRequirement.objects.filter(worker__process=worker.process, name=OuterRef("error"))
    recent = stage.failed_attempts.filter(
        Exists(slots.filter(registered_at__lte=OuterRef("ended_at"))),
        Exists(unmet),
        reason=FailureReason.NOT_RUNNABLE,
        ended_at__gte=at - timedelta(seconds=NOT_RUNNABLE_SECONDS),
    )
    name = recent.values_list("error", flat=True).order_by("-attempt").first()
    return None if name is None else Requirement(name)


def add_requirement(worker: Worker, stage: Stage, missing: Requirement, *, at_run_time: bool) -> None:
    """Record that a locked worker lacks what a locked stage needs. The stage is not saved."""
    unmet = UnmetRequirement(worker=worker, name=missing.name, found_at_run_time=at_run_time)
    if at_run_time:
        UnmetRequirement.objects.bulk_create(
            [unmet], update_conflicts=True, unique_fields=["worker", "name"], update_fields=["found_at_run_time"]
        )
    else:
        UnmetRequirement.objects.bulk_create([unmet], ignore_conflicts=True)
    newest = worker.unmet_requirements.order_by("-pk").values_list("pk", flat=True)
    if oldest := newest[MAX_UNMET_REQUIREMENTS : MAX_UNMET_REQUIREMENTS + 1].first():
        worker.unmet_requirements.filter(pk__lte=oldest).delete()
    names = {*stage.requirement_names, missing.name}
    if len(names) <= MAX_STAGE_REQUIREMENTS:
        stage.requirements = "\n".join(sorted(names))


def meet_requirements(worker: Worker, stage: Stage, *, has_run: bool) -> None:
    """Record that the process of a worker has what a stage needs that it starts, or that has run there."""
    if not stage.requirements:
        return
    slots = Worker.objects.filter(process=worker.process)
    unmet = UnmetRequirement.objects.filter(worker__in=slots, name__in=stage.requirement_names).order_by("pk")
    if not has_run:
        unmet = unmet.filter(found_at_run_time=False)
    free = list(lock_if_free(unmet).values_list("pk", flat=True))
    UnmetRequirement.objects.filter(pk__in=free).delete()
