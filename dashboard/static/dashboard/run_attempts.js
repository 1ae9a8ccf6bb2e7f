// The earlier attempts at the stages of a run. The state of a run has only the last one, so its events give the others.

import { counted, duration, firstLine, shown } from "./format.js";
import { html } from "./lib.js";
import { when } from "./parts.js";

/** @typedef {import("./run_log.js").RunEvent} RunEvent */
/**
 * `endedAt` and `outcome` are null while the attempt runs. An `outcome` is `completed`, a `reason` of
 * `workflow.stage_retrying` or `workflow.stage_released`, `waited` if another attempt continued after an answer, or how
 * the run ended while the attempt ran.
 *
 * @typedef {{attempt: number, workerId: string | null, startedAt: string, endedAt: string | null, outcome: string | null, error: string}} Attempt
 */

const MAX_LISTED = 50;

/** @type {Record<string, string>} */
const STAGE_OUTCOMES = { "workflow.stage_completed": "completed", "workflow.stage_failed": "failed" };

/** @type {Record<string, string>} */
const RUN_OUTCOMES = {
  "workflow.completed": "skipped",
  "workflow.failed": "cancelled",
  "workflow.cancelled": "cancelled",
};

/** An attempt ends where it begins to wait, if another one continues after the answer. */
const WAIT_EVENTS = ["workflow.waiting", "workflow.wait_answered", "workflow.wait_expired"];

/** The names of the events that begin or end an attempt. */
export const ATTEMPT_EVENTS = [
  "workflow.stage_started",
  "workflow.stage_retrying",
  "workflow.stage_released",
  ...WAIT_EVENTS,
  ...Object.keys(STAGE_OUTCOMES),
  ...Object.keys(RUN_OUTCOMES),
];

/** @type {Record<string, {words: string, colour: string}>} */
const LOOKS = {
  completed: { words: "completed", colour: "success" },
  failed: { words: "failed", colour: "failure" },
  timed_out: { words: "timed out", colour: "timeout" },
  lost: { words: "lost with its worker", colour: "failure" },
  cancelled: { words: "cancelled", colour: "cancelled" },
  skipped: { words: "left unfinished", colour: "neutral" },
  waited: { words: "began to wait", colour: "waiting" },
  worker_stopped: { words: "given back, because its worker stopped", colour: "neutral" },
  not_runnable: { words: "given back, because its worker cannot run it", colour: "neutral" },
};

/**
 * Return the attempts at each stage, in order, by the name of the stage.
 *
 * @param {RunEvent[]} events Those of `ATTEMPT_EVENTS`, in order.
 * @returns {Map<string, Attempt[]>}
 */
export function attemptsOf(events) {
  const attempts = /** @type {Map<string, Attempt[]>} */ (new Map());
  const running = /** @type {Map<string, Attempt>} */ (new Map());
  const waiting = /** @type {Map<string, RunEvent>} */ (new Map());
  const end = (/** @type {string} */ stage, /** @type {RunEvent} */ event, /** @type {string} */ outcome) => {
    const attempt = running.get(stage);
    if (!attempt) return;
    running.delete(stage);
    Object.assign(attempt, { endedAt: event.timestamp, outcome, error: event.data.error ?? "" });
  };
  for (const event of events) {
    const { name, data, timestamp } = event;
    if (name === "workflow.stage_started") {
      const { stage_name: stage, attempt, worker_id: workerId } = data;
      const started = { attempt, workerId, startedAt: timestamp, endedAt: null, outcome: null, error: "" };
      running.set(stage, started);
      attempts.set(stage, [...(attempts.get(stage) ?? []), started]);
    } else if (name === "workflow.waiting") waiting.set(data.stage_name, event);
    else if (WAIT_EVENTS.includes(name)) {
      if (data.resumes) end(data.stage_name, waiting.get(data.stage_name) ?? event, "waited");
    } else if (name in RUN_OUTCOMES) {
      for (const stage of [...running.keys()]) end(stage, { ...event, data: {} }, RUN_OUTCOMES[name]);
    } else end(data.stage_name, event, STAGE_OUTCOMES[name] ?? data.reason);
  }
  return attempts;
}

/** Whether a stage waits: its times are those of its last attempt, if it had one. @param {import("mahavishnu-client").Stage} stage */
export const isWaiting = ({ status }) => status === "pending" || status === "queued";

/** The attempts before that of the stage. @param {import("mahavishnu-client").Stage} stage @param {Attempt[]} attempts */
export const earlierOf = (stage, attempts) =>
  attempts.filter(
    ({ attempt, endedAt }) => endedAt && (attempt < stage.attempt || (attempt === stage.attempt && isWaiting(stage))),
  );

/** @param {Attempt} attempt */
export const lookOfAttempt = ({ outcome }) =>
  LOOKS[outcome ?? ""] ?? { words: (outcome ?? "").replaceAll("_", " "), colour: "neutral" };

/** The earlier attempts in words. @param {Attempt[]} attempts */
export function attemptList(attempts) {
  const listed = attempts.slice(-MAX_LISTED);
  return html`<details class="attempts">
    <summary>${counted(attempts.length, "earlier attempt")}</summary>
    ${when(listed.length < attempts.length, html`<p class="muted">The last ${MAX_LISTED} of them:</p>`)}
    <ul>
      ${listed.map((each) => {
        const { words, colour } = lookOfAttempt(each);
        const tookMs = Date.parse(each.endedAt ?? "") - Date.parse(each.startedAt);
        const facts = [each.workerId && shown(each.workerId), each.error && firstLine(each.error)].filter(Boolean);
        return html`<li>
          Attempt ${each.attempt} <span class=${colour}>${shown(words)}</span> after
          ${duration(tookMs)}${facts.map((fact) => html` · ${fact}`)}
        </li>`;
      })}
    </ul>
  </details>`;
}
