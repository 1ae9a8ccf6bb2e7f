"""The scheduler: it acts on stages, workflows, workers and pools that are due."""

from __future__ import annotations

from orchestration.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
