"""The TypeScript file: `messages.d.ts`."""

from __future__ import annotations

import types
import typing
from datetime import datetime
from typing import Any, Literal

from msgspec import Raw, UnsetType

from generator.model import Field, Type

_NAMES = {
    type(None): "null",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    datetime: "string",
    Raw: "unknown",
}

_STATES = """/** Why no worker can take a run now. */
export interface Hold { reason: string; needs: string; since: string }

/** A stream of chunks that a stage has opened. */
export interface OpenedStream { name: string; attempt: number; content_type: string }

export interface StageState {
  position: number; stage_name: string; step: number; status: string; worker_id: string | null; attempt: number;
  last_attempt: number; queued_at: string | null; started_at: string | null; finished_at: string | null;
  duration_ms: number | null; progress: number | null; message: string; error: string; retry_at: string | null;
  streams?: OpenedStream[];
}

export interface RunRow {
  workflow_id: string; name: string; status: string; stages_completed: number; total_stages: number;
  pool_id: string | null; created_at: string; started_at: string | null; finished_at: string | null; held: Hold | null;
  parent_id?: string; root_id?: string; reported_by?: string;
}

export interface Run extends RunRow {
  adapter: string; prompt: string; params: Record<string, unknown>; deadline_at: string | null; result: unknown;
  error: string; stage_counts: Record<string, number>; stages: StageState[]; truncated?: boolean;
}

export interface Worker {
  worker_id: string; status: string; pool_id: string; draining: boolean; release: string; workflow_id: string | null;
  stage_name: string | null; status_changed_at: string; last_heartbeat_at: string; truncated?: boolean;
  reported_by?: string;
}

export interface PoolMetrics {
  active_workers: number; idle_workers: number; queue_size: number; tasks_completed: number; tasks_failed: number;
  tasks_running: number; worker_count: number; error_workers: number;
}

export interface PoolRow { pool_id: string; status: string; metrics: PoolMetrics; reported_by?: string }

export interface Pool extends PoolRow { workers: Worker[]; truncated?: boolean }

export interface Overview { workflows: RunRow[]; pools: PoolRow[]; truncated?: boolean }

export interface ListedRun extends RunRow { adapter: string; prompt: string; error: string }

export interface ListedPool extends PoolRow { created_at: string }

export interface ListedWait {
  wait_id: number; workflow_id: string; workflow_name: string; stage_name: string; name: string; kind: string;
  status: string; title: string; schema: object; recipients: string[]; opened_at: string; expires_at: string | null;
  by: string; answered_at: string | null;
}

export interface ListedEvent { id: string; event: string; data: EventData; timestamp: string; seq: number }"""


def messages_file(events: list[Type], responses: list[Type], requests: list[Type]) -> str:
    """Return the types of states, events, requests and responses, with the wire's own field names."""
    by_message = {item.message: item.name for item in responses if item.message}
    event_map = "\n".join(f'  "{item.message}": {item.name};' for item in events if item.message)
    request_map = "\n".join(
        f"  {item.message}: {{ data: {_inline(item)}; response: {by_message[item.message]} }};" for item in requests
    )
    interfaces = "\n\n".join(_interface(item) for item in (*events, *responses))
    return f"""// Written by `make clients` from the structs of the server.

{_STATES}

/** The data of every event has these. */
export interface EventData {{
  timestamp: string;
  test?: boolean;
  truncated?: boolean;
  reported_by?: string;
}}

{interfaces}

/** The data of each event, by its name. */
export interface EventTypes {{
{event_map}
}}

/** The data of each request and of its response, by its name. */
export interface RequestTypes {{
{request_map}
}}
"""


def _interface(item: Type) -> str:
    first = item.doc.split("\n\n", 1)[0].replace("\n", " ")
    fields = "".join(f"  {_member(field)};\n" for field in item.fields)
    base = f" extends {item.base}" if item.base else ""
    return f"/** {first} */\nexport interface {item.name}{base} {{\n{fields}}}"


def _inline(item: Type) -> str:
    return f"{{ {'; '.join(_member(field) for field in item.fields)} }}" if item.fields else "Record<string, never>"


def _member(field: Field) -> str:
    return f"{field.wire_name}{'?' if field.is_optional else ''}: {type_name(field.type)}"


def type_name(hint: Any) -> str:
    """Return a type as TypeScript source."""
    if hint in _NAMES:
        return _NAMES[hint]
    if isinstance(hint, typing.ForwardRef | str):
        return hint if isinstance(hint, str) else hint.__forward_arg__
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_name(part) for part in arguments if part is not UnsetType))
    if origin is list:
        inner = type_name(arguments[0])
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if origin is dict:
        return f"Record<{type_name(arguments[0])}, {type_name(arguments[1])}>"
    return "unknown" if hint is Any else str(hint.__name__)
