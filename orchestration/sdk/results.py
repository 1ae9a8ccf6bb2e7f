"""The outputs of the completed stages of a run, for `ctx.results`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from django.db.models import QuerySet

from orchestration.models import Stage, StageStatus
from orchestration.sdk.conversion import Mismatch, convert_strictly
from orchestration.sdk.stage_errors import StageFailed

Value = TypeVar("Value")


_COLUMNS: Final = ("name", "result", "pk", "map__total", "map__failed")


class ItemResults(Sequence[Any]):
    """The outputs of the items of a stage with `each`, in the order of its values. They are read in pages.

    Attributes:
        failed: How many items have failed.
    """

    PAGE_ITEMS: Final = 500

    def __init__(self, stage_id: int, total: int, failed: int, rows: Callable[[Iterable[Any]], list[Any]]) -> None:
        self.failed = failed
        self._stage_id = stage_id
        self._total = total
        self._rows = rows
        self._page: tuple[int, dict[int, Any]] = (-1, {})

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """Return the output of an item, or of several; None for one that has failed or was skipped."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self._total))]
        position = index + self._total if index < 0 else index
        if not 0 <= position < self._total:
            raise IndexError(f"item {index} of {self._total}")
        number = position // self.PAGE_ITEMS
        if self._page[0] != number:
            first = number * self.PAGE_ITEMS
            items = self._items().filter(item_index__gte=first, item_index__lt=first + self.PAGE_ITEMS)
            rows = self._rows(items.values_list("item_index", "result"))
            self._page = (number, {item_index: (result or {}).get("output") for item_index, result in rows})
        return self._page[1].get(position)

    def errors(self) -> dict[int, str]:
        """Return the errors of the items that have failed, by their number."""
        failed = self._items().filter(status=StageStatus.FAILED)
        return dict(self._rows(failed.order_by("item_index").values_list("item_index", "error")))

    def _items(self) -> QuerySet[Stage]:
        return Stage.objects.filter(item_of_id=self._stage_id)


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

    def get_as(self, stage_name: str, kind: type[Value]) -> Value:
        """Return the output of a completed stage as a type that the annotation of a parameter may be, too.

        Raises:
            KeyError: if the stage is not completed.
            StageFailed: if the output does not fit the type. The stage is not retried.
        """
        try:
            converted: Value = convert_strictly(self[stage_name], kind)
        except Mismatch as mismatch:
            raise StageFailed(f"The output of stage {stage_name} is {mismatch}", may_retry=False) from None
        return converted

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
        for name, result, pk, total, failed in self._rows(stages.values_list(*_COLUMNS)):
            is_map = total is not None
            output = ItemResults(pk, total, failed, self._rows) if is_map else (result or {}).get("output")
            self._outputs[name] = output

    def _completed(self) -> QuerySet[Stage]:
        completed = Stage.objects.filter(workflow_id=self._workflow_id, status=StageStatus.COMPLETED, item_of=None)
        return completed.order_by("step", "position")

    def _rows(self, query: Iterable[Value]) -> list[Value]:
        found: list[Value] = self._query(lambda: list(query))
        return found


class GivenResults(Results):
    """Outputs that a test gives."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        super().__init__("", lambda query: query())
        self._outputs = dict(outputs)
        self._names = dict.fromkeys(outputs)
