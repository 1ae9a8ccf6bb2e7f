// What a run does now, in one line: its stages that run, with their progress, or what it waits for.

import { serverNow } from "./connection.js";
import { cut, firstLine, number, runningFor, shown, until } from "./format.js";
import { html } from "./lib.js";
import { when } from "./parts.js";
import { waitsFor } from "./run_notes.js";

const MAX_STAGES = 2;
const MAX_ERROR_CHARACTERS = 200;

/** @typedef {import("mahavishnu-client").Run} Run */
/** @typedef {import("mahavishnu-client").RunRow} RunRow */

/** @param {RunRow} row @param {Run | null | undefined} run Its stages, if they are known. */
export function stageNow(row, run) {
  if (row.held) {
    const needs = row.held.needs ? ` (${shown(row.held.needs)})` : "";
    return html`<span class="waiting"
      >no worker can take it: ${shown(row.held.reason.replaceAll("_", " "))}${needs}, for
      ${runningFor(serverNow.value - Date.parse(row.held.since))}</span
    >`;
  }
  if (row.finished_at) return "";
  if (!run) return row.status === "pending" ? html`<span class="muted">waits</span>` : "";
  const running = run.stages.filter((stage) => stage.status === "running");
  if (running.length > 0) return runningStages(running);
  const retried = run.stages.find((stage) => stage.status === "pending" && stage.retry_at);
  if (retried) {
    return html`${shown(retried.stage_name)}
      <span class="waiting"
        >↻ attempt ${retried.attempt + 1} of ${retried.last_attempt}
        ${until(Date.parse(retried.retry_at ?? ""), serverNow.value)}</span
      >`;
  }
  const queued = run.stages.find((stage) => stage.status === "queued");
  if (queued) return html`${shown(queued.stage_name)} <span class="muted">waits for a worker</span>`;
  const waiting = run.stages.find((stage) => stage.status === "waiting");
  if (!waiting) return "";
  const { items } = waiting;
  return html`${shown(waiting.stage_name)}
    <span class="muted"
      >${items ? `${number(items.completed)} of ${number(items.total)} items` : waitsFor(waiting)}</span
    >`;
}

/** @param {import("mahavishnu-client").Stage[]} running */
function runningStages(running) {
  return html`${running.slice(0, MAX_STAGES).map(
    (stage, index) =>
      html`${index ? ", " : ""}${shown(stage.stage_name)}${
        stage.progress === null
          ? ""
          : html` <progress
                class="thin"
                max="1"
                .value=${stage.progress}
                aria-label="Progress of ${shown(stage.stage_name)}"
              ></progress>
              <span class="percent">${Math.round(stage.progress * 100)} %</span>`
      }${stage.attempt > 1 ? html` <span class="muted">attempt ${stage.attempt}</span>` : ""}`,
  )}${when(running.length > MAX_STAGES, html` <span class="muted">+${running.length - MAX_STAGES}</span>`)}`;
}

/** The error of a run, after the stage that failed. @param {string} error */
export function errorLine(error) {
  const line = cut(firstLine(error), MAX_ERROR_CHARACTERS);
  const match = /^The stage (\S+) failed: (.*)$/.exec(line);
  return match ? html`<strong>${match[1]}</strong>: ${match[2]}` : line;
}
