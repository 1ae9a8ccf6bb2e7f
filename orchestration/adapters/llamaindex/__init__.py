"""The adapter `llamaindex`: a run is a LlamaIndex workflow, and each of its steps is shown as a stage."""

from __future__ import annotations

from orchestration.adapters.llamaindex.adapter import LlamaIndexAdapter

__all__ = ["LlamaIndexAdapter"]
