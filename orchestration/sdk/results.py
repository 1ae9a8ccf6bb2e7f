"""The outputs of the completed stages of a run, for `ctx.results`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from django.db.models import QuerySet

from orchestration.models import Stage, StageStatus

Value = TypeVar("Value")


class Results(Mapping[str, Any]):
    """Outputs of the completed stages of a run, by name.

    An output is read from the database when it is first used, so a stage that uses few of many does not read the rest.
    A stage that iterates, or uses more than `MAX_SINGLE_READS`, reads all outputs at once.
    """

    MAX_SINGLE_READS: Final = 32

    def __init__(self, workflow_id: str, query: Callable[[Callable[[], Any]], Any]) -> None:
        self._workflow_id = workflow_id
        self._query = query
        self._outputs: dict[str, Any] = {}
        # None until they are read. After that, stages that complete later are not included.
        self._names: dict[str, None] | None = None
        self._single_reads = 0

    def __getitem__(self, stage_name: str) -> Any:
        if self._names is not None and stage_name not in self._names:
            raise KeyError(stage_name)
        if stage_name not in self._outputs:
            self._read_output(stage_name)
        return self._outputs[stage_name]

    def __iter__(self) -> Iterator[str]:
        self._single_reads = self.MAX_SINGLE_READS
        return iter(self._read_names())

    def __len__(self) -> int:
        return len(self._read_names())

    def _read_names(self) -> dict[str, None]:
        if self._names is None:
            self._names = dict.fromkeys(self._rows(self._completed().values_list("name", flat=True)))
        return self._names

    def _read_output(self, stage_name: str) -> None:
        if self._single_reads < self.MAX_SINGLE_READS:
            self._single_reads += 1
            self._read(self._completed().filter(name=stage_name))
        else:
            self._read(self._completed())
            self._names = dict.fromkeys(self._outputs) if self._names is None else self._names

    def _read(self, stages: QuerySet[Stage]) -> None:
        rows = self._rows(stages.values_list("name", "result"))
        self._outputs.update({name: (result or {}).get("output") for name, result in rows})

    def _completed(self) -> QuerySet[Stage]:
        return Stage.objects.filter(workflow_id=self._workflow_id, status=StageStatus.COMPLETED).order_by("step", "position")

    def _rows(self, query: Iterable[Value]) -> list[Value]:
        found: list[Value] = self._query(lambda: list(query))
        return found
