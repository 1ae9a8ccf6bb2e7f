// One workflow: what it does now or why it failed, its timeline, its log, its data and its events.

import { cancelRuns, pendingWord, retryFrom, retryRuns } from "../actions.js";
import { client, follow, serverNow } from "../connection.js";
import { duration, firstLine, nameOf, runningFor, shortId, shown, until } from "../format.js";
import { html } from "../lib.js";
import {
  closeOnEscape,
  copyButton,
  emptyPage,
  heldBadge,
  loading,
  poolLink,
  refusedPage,
  staleness,
  statusBadge,
  timeAgo,
  timeAt,
  when,
} from "../parts.js";
import { OpenWaits } from "../open_waits.js";
import { mayOperate } from "../permissions.js";
import { route, urlOf, urlOfRun } from "../routes.js";
import { dataTab, escapedLines } from "../run_data.js";
import { eventsTab } from "../run_events.js";
import { logTab, RunLog } from "../run_log.js";
import { RunStreams } from "../run_streams.js";
import { timelineTab } from "../run_timeline.js";
import { StageItems } from "../stage_items.js";
import { startAgain } from "../start_again.js";
import { lookOf } from "../statuses.js";
import { SubRuns } from "../sub_runs.js";
import { tookText } from "./workflows.js";

/** @typedef {import("mahavishnu-client").Run} Run */

const TABS = ["timeline", "log", "data", "events"];
const RETRYABLE = ["failed", "timeout", "cancelled"];

/** What the page shows besides the state of the run. */
class Parts {
  /** @param {string} id */
  constructor(id) {
    this.log = new RunLog(id);
    this.waits = new OpenWaits();
    this.streams = new RunStreams(id);
    this.items = new StageItems(id);
    this.subRuns = new SubRuns(id);
  }

  close() {
    for (const part of [this.log, this.streams, this.items, this.subRuns]) part.close();
  }
}

/** @param {string} id @returns {import("../main.js").Page} */
export function open(id) {
  const run = follow(client.workflow(id));
  const parts = new Parts(id);
  return {
    title: () => (run.value ? `${nameOf(run.value)} ${shortId(id)}` : `Workflow ${shortId(id)}`),
    view: () => view(id, run, parts),
    close() {
      run.stop();
      parts.close();
    },
  };
}

/** @param {string} id @param {import("../connection.js").Followed<any>} followed @param {Parts} parts */
function view(id, followed, parts) {
  if (followed.error) return refusedPage(followed.error, "this workflow");
  const run = /** @type {Run | null | undefined} */ (followed.value);
  if (run === undefined)
    return html`<h1>Workflow ${shortId(id)}</h1>
      ${loading("the workflow")}`;
  if (run === null) return missing(id);
  const { log } = parts;
  const tab = TABS.includes(route.value.tab) ? route.value.tab : "timeline";
  return html`
    <article class="run ${staleness()}">
      ${head(run)} ${outcome(run)} ${parts.waits.view(run)} ${tabs(tab, log)}
      <section id="tab" aria-label=${tab}>
        ${tab === "timeline" ? timeline(run, parts) : tab === "log" ? logTab(log, run) : tab === "data" ? dataTab(run) : eventsTab(log)}
      </section>
    </article>
  `;
}

/** @param {Run} run @param {Parts} parts */
function timeline(run, { log, streams, items, subRuns }) {
  return html`${timelineTab(run, {
    attempts: log.attempts.value,
    notes: log.notes.value,
    below: (stage) => html`${items.view(stage)}${streams.view(stage)}`,
  })}
  ${subRuns.view()}
  ${when(
    log.lines.value.length > 0,
    html`<h2>Log</h2>
      ${logTab(log, run, { tail: 12 })}`,
  )}`;
}

/** @param {string} id */
function missing(id) {
  return emptyPage(
    "There is no such workflow",
    html`<p>No workflow has the id <code>${shown(id)}</code>. It may have been removed after its time.</p>
      <p><a href=${urlOf("workflows")}>All workflows</a></p>`,
  );
}

/** @param {Run} run */
function head(run) {
  const { workflow_id: id } = run;
  return html`<header class="run-head">
    <h1>${nameOf(run)} <span class="id" title=${id}>${shortId(id)}</span> ${copyButton(id, "the id")}</h1>
    <p class="facts">
      ${statusBadge("workflow", run.status, pendingWord(`workflow:${id}`) || undefined)} ${when(run.held, heldBadge())}
      <span>${tookFact(run)}</span>
      <span>${run.stages_completed} of ${run.total_stages} stages</span>
      <span>pool ${poolLink(run.pool_id)}</span>
      <span
        >${run.started_at ? "started" : "created"} ${timeAt(run.started_at ?? run.created_at)}
        (${timeAgo(run.started_at ?? run.created_at)})</span
      >
      ${when(run.deadline_at, html`<span>times out ${until(Date.parse(run.deadline_at ?? ""), serverNow.value)}</span>`)}
      ${when(run.parent_id, html`<span>sub-run of ${treeLink(run.parent_id)}</span>`)}
      ${when(run.root_id && run.root_id !== run.parent_id, html`<span>of the tree of ${treeLink(run.root_id)}</span>`)}
      ${when(run.reported_by, html`<span>reported by ${shown(run.reported_by)}</span>`)}
    </p>
    ${run.reported_by ? "" : buttons(run)}
  </header>`;
}

/** A run above this one. Its name is on its page. @param {string | undefined} id */
const treeLink = (id = "") => html`<a href=${urlOfRun(id)} title=${id}>${shortId(id)}</a>`;

/** @param {Run} run */
function tookFact(run) {
  if (!run.started_at) return "not started";
  return run.finished_at ? `took ${tookText(run)}` : `for ${tookText(run)}`;
}

/** @param {Run} run */
function buttons(run) {
  const again = run.name && mayOperate("definition", run.name) ? startAgain(run) : null;
  const may = mayOperate("workflow", run.workflow_id);
  if (!may && !again) return "";
  return html`<div class="buttons">
    ${may ? operations(run) : ""}
    ${when(again, html`<a class="button" href=${again?.url ?? ""}>Start again with these values</a>`)}
    ${when(again?.leftOut.length, html`<span class="muted">The link leaves out ${again?.leftOut.map(shown).join(", ")}.</span>`)}
  </div>`;
}

/** @param {Run} run */
function operations(run) {
  const from = run.stages.filter((stage) => stage.status !== "pending");
  return html`${when(run.finished_at === null, html`<button type="button" class="danger" @click=${() => cancelRuns([run])}>Cancel</button>`)}
  ${when(RETRYABLE.includes(run.status), html`<button type="button" class="primary" data-key="retry" @click=${() => retryRuns([run])}>Retry</button>`)}
  ${when(
    run.finished_at !== null && from.length > 0,
    html`<details class="menu" @keydown=${closeOnEscape}>
      <summary class="button">Retry from …</summary>
      <ul>
        ${from.map(
          (stage) =>
            html`<li>
              <button
                type="button"
                @click=${(/** @type {any} */ event) => {
                  event.target.closest("details").open = false;
                  void retryFrom(run, stage, run.stages.filter((other) => other.step > stage.step).length);
                }}
              >
                ${shown(stage.stage_name)}
              </button>
            </li>`,
        )}
      </ul>
    </details>`,
  )}`;
}

/** Why a run failed, or why it does not run: above everything else. @param {Run} run */
function outcome(run) {
  if (run.held) {
    const needs = run.held.needs ? ` ${shown(run.held.needs)}` : "";
    return html`<section class="banner waiting">
      <p>
        <strong>No worker can take it:</strong> ${shown(run.held.reason.replaceAll("_", " "))}${needs}, for
        ${runningFor(serverNow.value - Date.parse(run.held.since))}.
      </p>
    </section>`;
  }
  const failed = run.stages.find((stage) => stage.status === "failed");
  if (run.status === "failed" || run.status === "timeout") {
    const error = failed?.error || run.error;
    const unfinished = run.stages.filter((stage) => stage.status === "cancelled" && stage.started_at);
    return html`<section class="banner ${lookOf("workflow", run.status).colour}" aria-label="Error">
      <p>
        <strong>${failed ? `${shown(failed.stage_name)}: ` : ""}${firstLine(error) || "No reason was given"}</strong>
      </p>
      ${when(failed, html`<p class="muted">attempt ${failed?.attempt} of ${failed?.last_attempt} · ${failed?.worker_id ? shown(failed.worker_id) : "no worker"} · ${duration(failed?.duration_ms)}</p>`)}
      ${when(
        run.status === "timeout" && !failed,
        html`<p class="muted">
          after
          ${tookText(run)}${unfinished.length ? `, while ${unfinished.map((stage) => shown(stage.stage_name)).join(", ")} ran` : ""}
        </p>`,
      )}
      ${when(error.trim().includes("\n"), html`<pre tabindex="0">${escapedLines(error)}</pre>`)}
    </section>`;
  }
  if (run.status === "cancelled")
    return html`<section class="banner cancelled">
      <p><strong>Cancelled:</strong> ${shown(run.error) || "no reason was given"}</p>
    </section>`;
  return "";
}

/** @param {string} shownTab @param {RunLog} log */
function tabs(shownTab, log) {
  const counts = { log: log.countText(), events: log.eventCountText() };
  return html`<nav class="tabs" aria-label="Parts of the workflow">
    ${TABS.map(
      (tab) =>
        html`<a href="#${tab}" data-tab=${tab} aria-current=${tab === shownTab ? "page" : "false"}
          >${tab[0].toUpperCase()}${tab.slice(1)}
          ${when(tab in counts, html`<span class="count">${/** @type {any} */ (counts)[tab]}</span>`)}</a
        >`,
    )}
  </nav>`;
}
