"""The adapter `llamaindex`: a run is a LlamaIndex workflow, and each of its steps appears as a stage."""

from __future__ import annotations

from orchestration.adapters.llamaindex.adapter import LlamaIndexAdapter

__all__ = ["LlamaIndexAdapter"]
