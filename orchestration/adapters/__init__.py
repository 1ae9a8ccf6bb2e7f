"""Adapters: which framework turns a prompt and its parameters into stages, and runs each of them in a worker."""

from __future__ import annotations

from orchestration.sdk.adapter import Adapter, MissingDependency, StageFailed, UnknownAdapter, adapter_named

__all__ = ["Adapter", "MissingDependency", "StageFailed", "UnknownAdapter", "adapter_named"]
