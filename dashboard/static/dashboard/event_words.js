// What events are called and mean, for people: a sign, a word, a colour, what they are about, and a summary on a line.

import { counted, cut, duration, firstLine, number, shown } from "./format.js";
import { lookOf } from "./statuses.js";

/** @typedef {import("./statuses.js").Look} Look */
/** @typedef {{name: string, data: any, timestamp: string}} NamedEvent */

const MAX_SUMMARY_CHARACTERS = 240;
const MAX_LISTED_NAMES = 4;
const OF_EVERY_EVENT = new Set([
  "timestamp",
  "workflow_id",
  "pool_id",
  "worker_id",
  "name",
  "test",
  "truncated",
  "reported_by",
]);

/** @param {string} sign @param {string} word @param {string} [colour] @returns {Look} */
const look = (sign, word, colour = "neutral") => ({ sign, word, colour });

/** Every event of the protocol, by the group in which it is offered: a test compares them. @type {Record<string, Record<string, Look>>} */
export const EVENT_GROUPS = {
  Workflows: {
    "workflow.created": look("○", "workflow created"),
    "workflow.started": look("◐", "workflow started", "running"),
    "workflow.completed": look("✓", "workflow completed", "success"),
    "workflow.failed": look("✕", "workflow failed", "failure"),
    "workflow.cancelled": look("⊘", "workflow cancelled", "cancelled"),
    "workflow.retried": look("↻", "workflow retried", "waiting"),
    "workflow.held": look("!", "workflow held", "waiting"),
    "workflow.hold_ended": look("○", "workflow no longer held"),
    "workflow.moved": look("→", "workflow moved"),
    "workflow.removed": look("–", "workflow removed"),
  },
  Stages: {
    "workflow.stages_queued": look("↻", "stages queued", "waiting"),
    "workflow.stage_started": look("◐", "stage started", "running"),
    "workflow.stage_progress": look("◐", "stage progress", "running"),
    "workflow.stage_log": look("≡", "stage log"),
    "workflow.step_completed": look("·", "step completed"),
    "workflow.stream_opened": look("≡", "stream opened"),
    "workflow.map_started": look("◐", "items started", "running"),
    "workflow.map_progress": look("◐", "items progress", "running"),
    "workflow.waiting": look("‖", "stage waits", "waiting"),
    "workflow.wait_answered": look("✓", "wait answered", "success"),
    "workflow.wait_expired": look("◷", "wait expired", "timeout"),
    "workflow.stage_completed": look("✓", "stage completed", "success"),
    "workflow.stage_failed": look("✕", "stage failed", "failure"),
    "workflow.stage_retrying": look("↻", "stage retrying", "waiting"),
    "workflow.stage_released": look("↻", "stage given back", "waiting"),
    "workflow.stage_status_changed": look("○", "stage changed"),
    "workflow.stage_added": look("+", "stage added"),
    "workflow.stage_removed": look("–", "stage removed"),
  },
  Workers: {
    "worker.added": look("+", "worker added"),
    "worker.status_changed": look("○", "worker changed"),
    "worker.stage_changed": look("◐", "worker continues", "running"),
    "worker.moved": look("→", "worker moved"),
    "worker.draining": look("!", "worker draining", "waiting"),
    "worker.removed": look("–", "worker removed"),
  },
  Pools: {
    "pool.created": look("+", "pool created"),
    "pool.status_changed": look("○", "pool counts"),
    "pool.drained": look("!", "pool draining", "waiting"),
    "pool.reopened": look("●", "pool reopened", "success"),
    "pool.closed": look("–", "pool closed"),
    "pool.removed": look("–", "pool removed"),
  },
};

const LOOKS = Object.assign({}, ...Object.values(EVENT_GROUPS));

/** Every name of an event. */
export const EVENT_NAMES = Object.keys(LOOKS);

/** Return how an event looks. One that is unknown, of a newer server, is shown by its name. @param {NamedEvent} event @returns {Look} */
export function lookOfEvent({ name, data }) {
  if (name === "workflow.failed" && data.status === "timeout")
    return { ...lookOf("workflow", "timeout"), word: "workflow timed out" };
  if (name === "worker.status_changed" && data.status) {
    const { sign, word, colour } = lookOf("worker", data.status);
    return { sign, word: `worker ${word}`, colour };
  }
  if (name === "workflow.stage_status_changed" && data.status) {
    const { sign, word, colour } = lookOf("stage", data.status);
    return { sign, word: `stage ${word}`, colour };
  }
  return LOOKS[name] ?? look("?", shown(name));
}

/** @param {unknown[]} parts */
const joined = (parts) =>
  parts.filter((part) => part !== "" && part !== null && part !== undefined && part !== false).join(" · ");

/** @param {unknown} name */
const pool = (name) => (name ? `pool ${name}` : "no pool");

/** @param {{stage_name: string}[] | string[] | null | undefined} stages */
function namesOf(stages) {
  const names = (stages ?? []).map((stage) => (typeof stage === "string" ? stage : stage.stage_name));
  const rest = names.length - MAX_LISTED_NAMES;
  return names.slice(0, MAX_LISTED_NAMES).join(", ") + (rest > 0 ? ` and ${number(rest)} more` : "");
}

/** @param {any} metrics */
function countsOf(metrics) {
  const counts = [
    [metrics.active_workers, "busy"],
    [metrics.idle_workers, "idle"],
    [metrics.error_workers, "in error"],
    [metrics.queue_size, "queued"],
    [metrics.tasks_running, "running"],
    [metrics.tasks_completed, "done"],
    [metrics.tasks_failed, "failed"],
  ];
  return joined(counts.map(([count, word]) => count > 0 && `${number(count)} ${word}`)) || "no workers, nothing queued";
}

/** @param {any} data */
const again = ({ retry_at: at, timestamp }) =>
  at ? `again in ${duration(Date.parse(at) - Date.parse(timestamp))}` : "again at once";

/** @param {any} result */
function resultOf(result) {
  if (!result || typeof result !== "object") return "";
  const took = typeof result.total_duration_ms === "number" && duration(result.total_duration_ms);
  const output = result.final_output;
  return joined([
    took,
    typeof output === "string"
      ? firstLine(output)
      : output === undefined || output === null
        ? ""
        : JSON.stringify(output),
  ]);
}

/** @type {Record<string, (data: any) => string>} */
const SUMMARIES = {
  "workflow.created": (data) =>
    joined([counted(data.total_stages, "stage"), pool(data.pool_id), data.prompt && firstLine(data.prompt)]),
  "workflow.started": (data) => joined([data.prompt && firstLine(data.prompt)]) || data.adapter,
  "workflow.completed": (data) => resultOf(data.result),
  "workflow.failed": (data) => firstLine(data.error ?? ""),
  "workflow.cancelled": (data) => (data.reason ? firstLine(data.reason) : "without a reason"),
  "workflow.retried": (data) =>
    joined([
      data.from_stage && `from ${data.from_stage}`,
      data.failed_items_only && "only its failed items",
      `${counted((data.stages ?? []).length, "stage")} again`,
    ]),
  "workflow.held": (data) =>
    joined([
      data.reason === "no_worker"
        ? `${pool(data.pool_id)} has no worker`
        : `no worker of ${data.pool_id} has ${data.needs}`,
    ]),
  "workflow.hold_ended": (data) => pool(data.pool_id),
  "workflow.moved": (data) => `from ${pool(data.from_pool_id)} to ${pool(data.pool_id)}`,
  "workflow.stages_queued": (data) =>
    data.stages ? namesOf(data.stages) : `${counted(data.count, "stage")} of step ${data.step}`,
  "workflow.stage_started": (data) =>
    joined([data.stage_name, data.worker_id && `on ${data.worker_id}`, data.attempt > 1 && `attempt ${data.attempt}`]),
  "workflow.stage_progress": (data) =>
    joined([data.stage_name, `${Math.round(data.progress * 100)} %`, data.message && firstLine(data.message)]),
  "workflow.stage_log": (data) => joined([data.stage_name, firstLine(data.message ?? "")]),
  "workflow.step_completed": (data) =>
    joined([
      data.stage_name,
      data.step_name,
      data.cached && "read",
      `${counted(data.steps_completed, "step")} completed`,
    ]),
  "workflow.stream_opened": (data) => joined([data.stage_name, data.stream_name, data.content_type]),
  "workflow.map_started": (data) => joined([data.stage_name, counted(data.total, "item")]),
  "workflow.map_progress": (data) =>
    joined([
      data.stage_name,
      `${number(data.completed)} of ${number(data.total)} completed`,
      data.running > 0 && `${number(data.running)} running`,
      data.failed > 0 && `${number(data.failed)} failed`,
    ]),
  "workflow.waiting": (data) =>
    joined([
      data.stage_name,
      data.kind === "sleep"
        ? "for a time"
        : `${data.kind === "signal" ? "for the signal" : "for an answer to"} ${data.wait_name}`,
      data.title,
    ]),
  "workflow.wait_answered": (data) => joined([data.stage_name, data.wait_name, data.by && `by ${data.by}`]),
  "workflow.wait_expired": (data) => joined([data.stage_name, data.wait_name]),
  "workflow.stage_completed": (data) =>
    joined([
      data.stage_name,
      data.duration_ms !== null && duration(data.duration_ms),
      `${counted(data.stages_completed, "stage")} completed`,
    ]),
  "workflow.stage_failed": (data) => joined([data.stage_name, firstLine(data.error ?? "")]),
  "workflow.stage_retrying": (data) =>
    joined([
      data.stage_name,
      `attempt ${data.attempt} of ${data.last_attempt} failed, ${again(data)}`,
      firstLine(data.error ?? ""),
    ]),
  "workflow.stage_released": (data) =>
    joined([data.stage_name, String(data.reason ?? "").replaceAll("_", " "), again(data)]),
  "workflow.stage_status_changed": (data) => joined([data.stage_name, data.reason && firstLine(data.reason)]),
  "workflow.stage_added": (data) =>
    joined([
      data.stage_name,
      data.added_by && `by ${data.added_by}`,
      `step ${data.step}`,
      `${counted(data.total_stages, "stage")} now`,
    ]),
  "workflow.stage_removed": (data) => joined([data.stage_name, `${counted(data.total_stages, "stage")} now`]),
  "worker.added": (data) => joined([pool(data.pool_id), data.status, data.release && `release ${data.release}`]),
  "worker.status_changed": (data) => joined([data.stage_name, data.draining && "draining", pool(data.pool_id)]),
  "worker.stage_changed": (data) =>
    joined([data.stage_name ? `now ${data.stage_name}` : "no stage", pool(data.pool_id)]),
  "worker.moved": (data) => `from ${pool(data.from_pool_id)} to ${pool(data.pool_id)}`,
  "worker.draining": (data) => joined(["starts no further stage", pool(data.pool_id)]),
  "worker.removed": (data) => pool(data.pool_id),
  "pool.status_changed": (data) => countsOf(data.status),
  "pool.drained": () => "accepts no new work",
  "pool.reopened": () => "accepts new work",
  "pool.closed": () => "takes no work again",
};

/** Return what an event says, on one line. @param {NamedEvent} event */
export function summaryOf({ name, data }) {
  let text = "";
  try {
    text = SUMMARIES[name]?.(data) ?? otherFields(data);
  } catch {
    // A test event may lack fields.
    text = otherFields(data);
  }
  return cut(shown(text.slice(0, 4 * MAX_SUMMARY_CHARACTERS)), MAX_SUMMARY_CHARACTERS);
}

/** @param {any} data */
function otherFields(data) {
  const fields = Object.entries(data).filter(
    ([key, value]) => !OF_EVERY_EVENT.has(key) && value !== null && value !== "",
  );
  return joined(fields.map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`));
}

/** Return the kind and the id of what an event is about. @param {NamedEvent} event @returns {{kind: "workflow" | "pool" | "worker" | "", id: string}} */
export function subjectOf({ name, data }) {
  const kind = name.split(".", 1)[0];
  if (kind !== "workflow" && kind !== "pool" && kind !== "worker") return { kind: "", id: "" };
  return { kind, id: String(data[`${kind}_id`] ?? "") };
}
