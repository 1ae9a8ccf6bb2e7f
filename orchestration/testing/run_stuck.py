"""What a run in this process raises if nothing can happen in it."""

from __future__ import annotations


class RunStuck(Exception):
    """The run cannot continue without another process."""

    def __init__(self, workflow_id: str, stages: list[str]) -> None:
        self.workflow_id = workflow_id
        self.stages = stages
        super().__init__(workflow_id, stages)

    def __str__(self) -> str:
        return (
            f"Workflow {self.workflow_id} is not finished, and no stage of it is queued or waits for a retry. "
            f"Unfinished stages: {', '.join(self.stages) or 'none'}."
        )
