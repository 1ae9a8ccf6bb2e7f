"""Every event this server announces. A new event is one class in the module of its resource.

The API reference names six; the others are additions in its style.
"""

from __future__ import annotations

from realtime.events.types import pool, stage, stage_report, waits, worker, workflow
from realtime.events.types.base import EVENT_TYPES, EventData

__all__ = ["EVENT_TYPES", "EventData", "pool", "stage", "stage_report", "waits", "worker", "workflow"]
