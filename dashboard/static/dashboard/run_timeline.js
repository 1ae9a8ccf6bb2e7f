// The timeline of a run: a row for each stage, with the time it was queued, ran, and waited for another attempt.

import { serverNow } from "./connection.js";
import { counted, duration, firstLine, number, runningFor, shown, until } from "./format.js";
import { html, nothing, repeat, svg } from "./lib.js";
import { statusBadge, when } from "./parts.js";
import { attemptList, earlierOf, isWaiting, lookOfAttempt } from "./run_attempts.js";
import { endedWaits, waitsFor } from "./run_notes.js";
import { lookOf } from "./statuses.js";

/** @typedef {import("mahavishnu-client").Run} Run */
/** @typedef {import("mahavishnu-client").Stage} Stage */

const MAX_ROWS = 200;
const MIN_SPAN_MS = 10;
const TICKS = 4;
/** The narrowest bar that can be seen, in percent of the width. */
const MIN_BAR_PERCENT = 0.4;

/** @typedef {import("./run_attempts.js").Attempt} Attempt */
/** @typedef {import("./run_notes.js").Note} Note */
/** @typedef {{attempts: Map<string, Attempt[]>, notes: Map<string, Note>, below: (stage: Stage) => unknown}} Details */

/**
 * @param {Run} run
 * @param {Details} details What is known of each stage besides its state, by its name, and what is shown below it.
 */
export function timelineTab(run, { attempts, notes, below }) {
  const stages = inOrder(run.stages).slice(0, MAX_ROWS);
  const hidden = run.total_stages - stages.length;
  const [startMs, endMs] = spanOf(run);
  return html`<div class="timeline">
    <div class="stage-row axis" aria-hidden="true"><span></span><span></span>${axis(endMs - startMs)}<span></span></div>
    <ol>
      ${repeat(
        stages,
        (stage) => stage.stage_name,
        (stage, index) =>
          stageRow(stage, index + 1, {
            earlier: earlierOf(stage, attempts.get(stage.stage_name) ?? []),
            note: notes.get(stage.stage_name),
            below: below(stage),
            span: [startMs, endMs],
          }),
      )}
    </ol>
    ${when(hidden > 0, html`<p class="muted">${counted(hidden, "more stage")}. ${countsOf(run)}</p>`)}
    <p class="muted legend">
      <span class="key queued"></span> queued <span class="key ran"></span> ran <span class="key failure"></span> failed
      ${when(
        stages.some((stage) => stage.status === "running" || (stage.status === "waiting" && stage.items)),
        html`<span class="key running"></span> running`,
      )}
      ${when(
        stages.some((stage) => isIdle(stage, notes.get(stage.stage_name))),
        html`<span class="key waiting"></span> waiting`,
      )}
      ${when(
        stages.some((stage) => stage.status === "cancelled" && stage.started_at),
        html`<span class="key cancelled"></span> cancelled`,
      )}
    </p>
  </div>`;
}

/** The stages as they run: one that was added comes before the later steps. @param {readonly Stage[]} stages */
const inOrder = (stages) => stages.toSorted((one, other) => one.step - other.step || one.position - other.position);

/** @param {Run} run @returns {[number, number]} */
function spanOf(run) {
  const nowMs = serverNow.value;
  const times = run.stages.flatMap((stage) =>
    [stage.queued_at, stage.started_at].filter((at) => at !== null).map((at) => Date.parse(/** @type {string} */ (at))),
  );
  const startMs = Math.min(Date.parse(run.started_at ?? run.created_at), ...times);
  const endMs = run.finished_at ? Date.parse(run.finished_at) : nowMs;
  return [startMs, Math.max(endMs, startMs + MIN_SPAN_MS)];
}

/** @param {number} spanMs */
function axis(spanMs) {
  return html`<span class="ticks"
    >${Array.from({ length: TICKS + 1 }, (_, tick) => html`<span>${tick === 0 ? "0" : duration((spanMs * tick) / TICKS)}</span>`)}</span
  >`;
}

/**
 * @param {Stage} stage
 * @param {number} place From 1.
 * @param {{earlier: Attempt[], note: Note | undefined, below: unknown, span: [number, number]}} details
 */
function stageRow(stage, place, { earlier, note, below, span }) {
  return html`<li class="stage-row">
    <span class="what"
      ><span class="position">${place}</span> ${statusBadge("stage", stage.status, stage.stage_name)}<span
        class="spoken"
        >, ${lookOf("stage", stage.status).word}</span
      ></span
    >
    <span class="where muted">${stage.worker_id ? shown(stage.worker_id) : ""}</span>
    ${bar(stage, earlier, note, span)}
    <span class="took">${tookOf(stage)}</span>
    ${noteLine(stage, note)} ${when(earlier.length > 0, attemptList(earlier))} ${below}
  </li>`;
}

/** Whether the time of a stage has not ended: it runs, or waits for its items, its sub-runs or an answer. @param {Stage} stage */
const holdsTime = ({ status }) => status === "running" || status === "waiting";

/** Whether the time of a stage is one in which nothing ran. @param {Stage} stage @param {Note | undefined} note */
const isIdle = ({ status, items }, note) =>
  (status === "waiting" && !items) || (status === "completed" && note?.onlyWaits === true);

/** @param {Stage} stage */
function tookOf(stage) {
  if (holdsTime(stage) && stage.started_at) return runningFor(serverNow.value - Date.parse(stage.started_at));
  if (stage.duration_ms !== null) return duration(stage.duration_ms);
  if (stage.started_at && stage.finished_at)
    return duration(Date.parse(stage.finished_at) - Date.parse(stage.started_at));
  if (stage.status === "pending" && stage.retry_at) return until(Date.parse(stage.retry_at), serverNow.value);
  if (stage.status === "queued") return "queued";
  return stage.started_at ? "" : stage.status === "pending" ? "waits" : "never ran";
}

/** What is shown below a stage: progress, attempts, errors, waits. @param {Stage} stage @param {Note | undefined} note */
function noteLine(stage, note) {
  const attempts =
    stage.attempt > 1 || (stage.attempt === 1 && stage.error && stage.status !== "failed")
      ? `attempt ${stage.attempt} of ${stage.last_attempt}`
      : "";
  const isRetried = stage.status === "pending" && stage.retry_at;
  const progress = stage.status === "running" && stage.progress !== null ? `${Math.round(stage.progress * 100)} %` : "";
  const parts = [
    attempts,
    isRetried && "waits for the next attempt",
    stage.status === "waiting" && waitsFor(stage),
    stage.status === "skipped" && stage.skip_reason && `skipped: ${shown(stage.skip_reason)}`,
    ...endedWaits(note, stage.stage_name),
    progress,
    stage.message && stage.status === "running" && shown(stage.message),
    stage.error && firstLine(stage.error),
    note?.addedBy && `added by ${shown(note.addedBy)}`,
  ].filter(Boolean);
  return parts.length
    ? html`<span class="note ${stage.status === "failed" ? "error" : "muted"}">${parts.join(" · ")}</span>`
    : nothing;
}

/** @param {Stage} stage @param {Attempt[]} earlier @param {Note | undefined} note @param {[number, number]} span */
function bar(stage, earlier, note, [startMs, endMs]) {
  const percent = (/** @type {number} */ atMs) =>
    Math.min(100, Math.max(0, ((atMs - startMs) / (endMs - startMs)) * 100));
  const rect = (
    /** @type {string} */ look,
    /** @type {number} */ fromMs,
    /** @type {number} */ toMs,
    [y, height] = [0, 10],
  ) => {
    const from = Math.min(percent(fromMs), 100 - MIN_BAR_PERCENT);
    const width = Math.max(percent(toMs) - from, MIN_BAR_PERCENT);
    return svg`<rect class=${look} x=${from} y=${y} width=${width} height=${height}></rect>`;
  };
  const [queuedMs, startedMs, finishedMs] = [stage.queued_at, stage.started_at, stage.finished_at].map((at) =>
    at === null ? null : Date.parse(at),
  );
  const rects = [];
  // A stage that waits for another attempt still has the start of the last one, which is among the earlier ones.
  const currentMs = isWaiting(stage) ? null : startedMs;
  for (const [index, attempt] of earlier.entries()) {
    const endedMs = Date.parse(attempt.endedAt ?? "");
    const next = earlier[index + 1];
    rects.push(
      rect("queued", endedMs, next ? Date.parse(next.startedAt) : (currentMs ?? endMs), [4, 2]),
      rect(lookOfAttempt(attempt).colour, Date.parse(attempt.startedAt), endedMs),
    );
  }
  const waitedUntilMs = currentMs ?? (stage.status === "queued" ? endMs : null);
  if (queuedMs !== null && waitedUntilMs !== null && waitedUntilMs > queuedMs)
    rects.push(rect("queued", queuedMs, waitedUntilMs, [3, 4]));
  if (currentMs !== null) {
    const untilMs = finishedMs ?? (holdsTime(stage) ? endMs : currentMs);
    const { items } = stage;
    const status = isIdle(stage, note) ? "waiting" : stage.status === "waiting" ? "running" : stage.status;
    rects.push(rect(lookOf("stage", status).colour, currentMs, untilMs, status === "waiting" ? [3, 4] : undefined));
    const progress = stage.status === "waiting" && items ? doneShare(items) : stage.progress;
    if (holdsTime(stage) && progress !== null)
      rects.push(rect("progress", currentMs, currentMs + (endMs - currentMs) * progress, [8, 2]));
  }
  return html`<svg class="track" aria-hidden="true" preserveAspectRatio="none" viewBox="0 0 100 10">${rects}</svg>`;
}

/** @param {import("mahavishnu-client").ItemCounts} items */
const doneShare = ({ total, completed, failed }) => (total ? (completed + failed) / total : 1);

/** @param {Run} run */
function countsOf(run) {
  return Object.entries(run.stage_counts)
    .filter(([, count]) => count)
    .map(([status, count]) => `${number(/** @type {number} */ (count))} ${lookOf("stage", status).word}`)
    .join(", ");
}
