// The overview: whether the system is alive, what runs now, what failed lately and why, and the pools.

import { pendingWord, retryRuns, startWorkflow } from "../actions.js";
import { client, follow, now, readsEverything } from "../connection.js";
import { number, shown } from "../format.js";
import { html, repeat, signal } from "../lib.js";
import {
  command,
  emptyPage,
  emptyState,
  heldBadge,
  loading,
  poolLink,
  refused,
  refusedPage,
  runLink,
  scrollRegion,
  stageProgress,
  staleness,
  statusBadge,
  timeAgo,
  when,
} from "../parts.js";
import { notificationButton } from "../notifications.js";
import { mayOperate } from "../permissions.js";
import { followedPools, poolStrip } from "../pool_strip.js";
import { PoolTrends } from "../pool_trends.js";
import { RecentFailures } from "../recent_failures.js";
import { urlOf, urlOfFailures } from "../routes.js";
import { RowFlashes } from "../row_flashes.js";
import { errorLine, stageNow } from "../run_now.js";
import { RunningRows } from "../running_rows.js";
import { rateText } from "../sparkline.js";
import { toast } from "../toasts.js";
import { followedRuns } from "../worker_tiles.js";
import { tookText } from "./workflows.js";

/** @typedef {import("mahavishnu-client").Overview} State */
/** @typedef {import("mahavishnu-client").PoolRow} PoolRow */

const DEMO = "demo_retry";
const MAX_HISTORIES = 12;

/** @returns {import("../main.js").Page} */
export function open() {
  const overview = follow(client.overview());
  const trends = new PoolTrends(() => overview.value?.pools, MAX_HISTORIES);
  const parts = {
    overview,
    trends,
    failures: new RecentFailures(),
    running: new RunningRows(),
    runs: followedRuns(),
    flashes: new RowFlashes(),
    pools: followedPools(),
  };
  return {
    title: () => "Overview",
    view: () => view(parts),
    close() {
      overview.stop();
      for (const part of [trends, parts.failures, parts.running, parts.runs, parts.pools]) part.close();
    },
  };
}

/** @typedef {{overview: import("../connection.js").Followed<any>, trends: PoolTrends, failures: RecentFailures, running: RunningRows, runs: ReturnType<typeof followedRuns>, flashes: RowFlashes, pools: ReturnType<typeof followedPools>}} Parts */

/** @param {Parts} parts */
function view(parts) {
  const { overview, failures } = parts;
  if (!readsEverything.value || /** @type {any} */ (overview.error)?.code === "FORBIDDEN") return notAllowed();
  if (overview.error) return refusedPage(overview.error, "the overview");
  const state = /** @type {State | undefined} */ (overview.value);
  if (!state)
    return html`<h1 class="spoken">Overview</h1>
      ${loading("the overview")}`;
  const isNew = failures.hasRuns.value === false && state.workflows.length === 0;
  return html`<div class="overview ${staleness()}">
    <h1 class="spoken">Overview</h1>
    ${counters(state, parts)} ${isNew ? nothingYet() : html`${runningSection(state, parts)}${failedSection(failures)}`}
    ${poolStrip(state, parts.pools, parts.trends)}
  </div>`;
}

function notAllowed() {
  return emptyPage(
    "You may not see everything",
    html`<p>
        The overview needs the permission to read all events. You may open the workflows and pools that you have access
        to by their address, such as <code>${urlOf("workflows/ID")}</code>.
      </p>
      <p>Ask an administrator of this server for the permission.</p>`,
  );
}

/** @param {State} state @param {Parts} parts */
function counters(state, { trends, failures }) {
  const sum = (/** @type {keyof PoolRow["metrics"]} */ key) =>
    state.pools.reduce((total, pool) => total + pool.metrics[key], 0);
  const running = state.workflows.filter((run) => run.status === "running").length;
  const rates = state.pools.map((pool) => trends.doneRate(pool));
  const rate = rates.every((each) => each === null)
    ? null
    : rates.reduce((/** @type {number} */ total, each) => total + (each ?? 0), 0);
  const failed = failures.count.value;
  const [busy, idle, all] = [sum("active_workers"), sum("idle_workers"), sum("worker_count")];
  const onlineCount = busy + idle + sum("error_workers");
  return html`<ul class="counters" aria-label="The system now">
    ${counter("Running", `${number(running)}${state.truncated ? "+" : ""}`, running === 1 ? "workflow" : "workflows", urlOf("workflows", { status: "running" }), running ? "running" : "")}
    ${counter("Queued", number(sum("queue_size")), sum("queue_size") === 1 ? "stage waits" : "stages wait", urlOf("pools"), sum("queue_size") ? "waiting" : "")}
    ${counter("Failed 24 h", number(failed), failed === 1 ? "workflow" : "workflows", urlOfFailures(), failed ? "failure" : "")}
    ${counter("Done / min", rate === null ? "–" : rateText(rate), "stages", urlOf("workflows", { status: "completed" }), "")}
    ${counter("Workers", `${number(onlineCount)}/${number(all)}`, `online, ${number(busy)} busy`, urlOf("pools"), onlineCount === 0 ? "failure" : "")}
  </ul>`;
}

/** @param {string} name @param {string} value @param {string} unit @param {string} url @param {string} colour */
const counter = (name, value, unit, url, colour) =>
  html`<li>
    <a class="counter" href=${url}
      ><span class="counter-name">${name}</span> <strong class=${colour}>${value}</strong>
      <span class="muted">${unit}</span></a
    >
  </li>`;

function nothingYet() {
  const demo = mayOperate("definition", DEMO)
    ? html`<p>
        <button type="button" class="primary" ?disabled=${isStarting.value} @click=${startDemo}>
          ${isStarting.value ? "Starting…" : "Run a demo"}
        </button>
      </p>`
    : "";
  return emptyState(
    "Nothing has run yet",
    html`<p>
        Workflows appear here the moment they start.
        ${demo ? "Run a small one that fails twice before it succeeds, here or in a terminal:" : "Run a small one that fails twice before it succeeds:"}
      </p>
      ${demo}
      <p>${command(`python manage.py run_workflow ${DEMO} --watch`)}</p>`,
  );
}

const isStarting = signal(false);

async function startDemo() {
  isStarting.value = true;
  const problem = await startWorkflow({ name: DEMO });
  isStarting.value = false;
  if (problem) toast(shown(problem.message));
}

/** @param {State} state @param {Parts} parts */
function runningSection(state, { running, runs, flashes }) {
  const rows = running.arrange(state.workflows, now.value);
  runs.keep(rows.map((row) => row.workflow_id));
  const more = state.workflows.length - rows.filter((row) => !row.finished_at).length;
  return html`<section aria-labelledby="running-title">
    <div class="section-head">
      <h2 id="running-title">Running</h2>
      <a href=${urlOf("workflows")}>All workflows</a>
    </div>
    ${
      rows.length === 0
        ? html`<p class="muted calm">Nothing runs now.</p>`
        : scrollRegion(
            "Running workflows",
            html`<table class="rows now">
              <thead>
                <tr>
                  <th scope="col">Status</th>
                  <th scope="col">Workflow</th>
                  <th scope="col">Stages</th>
                  <th scope="col" class="wide">Stage now</th>
                  <th scope="col">Pool</th>
                  <th scope="col" class="number">Time</th>
                </tr>
              </thead>
              <tbody>
                ${repeat(
                  rows,
                  (row) => row.workflow_id,
                  (row) =>
                    html`<tr class=${flashes.classOf(row.workflow_id, row.status)}>
                      <td class="state">
                        ${statusBadge("workflow", row.status, pendingWord(`workflow:${row.workflow_id}`) || undefined)}
                        ${when(row.held, heldBadge())}
                      </td>
                      <td class="title">${runLink(row)}</td>
                      <td class="meta">${stageProgress(row)}</td>
                      <td class="wide">${stageNow(row, runs.get(row.workflow_id))}</td>
                      <td class="meta">${poolLink(row.pool_id)}</td>
                      <td class="meta number">${tookText(row)}</td>
                    </tr>`,
                )}
              </tbody>
            </table>`,
          )
    }
    ${when(more > 0, html`<p class="muted"><a href=${urlOf("workflows", { status: "running" })}>${state.truncated ? `More than ${number(more)}` : number(more)} more</a> not shown here.</p>`)}
  </section>`;
}

/** @param {RecentFailures} failures */
function failedSection(failures) {
  if (failures.error.value) return refused(failures.error.value, "failed workflows");
  const rows = failures.rows.value;
  const hidden = failures.count.value - (rows?.length ?? 0);
  return html`<section aria-labelledby="failed-title">
    <div class="section-head">
      <h2 id="failed-title">Failed lately</h2>
      <span class="links"
        >${notificationButton()} ${when(hidden > 0, html`<a href=${urlOfFailures()}>${number(hidden)} more</a>`)}</span
      >
    </div>
    ${
      rows === undefined
        ? loading("what failed")
        : rows.length === 0
          ? html`<p class="muted calm">Nothing has failed in the last 24 hours.</p>`
          : scrollRegion(
              "Failed workflows",
              html`<table class="rows failures">
                <thead>
                  <tr>
                    <th scope="col">Status</th>
                    <th scope="col">Workflow</th>
                    <th scope="col" class="wide">Error</th>
                    <th scope="col" class="number">Ended</th>
                    <th scope="col"><span class="spoken">Actions</span></th>
                  </tr>
                </thead>
                <tbody>
                  ${repeat(
                    rows,
                    (row) => row.workflow_id,
                    (row) => failedRow(row),
                  )}
                </tbody>
              </table>`,
            )
    }
  </section>`;
}

/** @param {import("../run_rows.js").Row} row */
function failedRow(row) {
  const pending = pendingWord(`workflow:${row.workflow_id}`);
  return html`<tr>
    <td class="state">${statusBadge("workflow", row.status, pending || undefined)}</td>
    <td class="title">${runLink(row)}</td>
    <td class="wide error" title=${shown(row.error)}>${errorLine(row.error)}</td>
    <td class="meta number">${timeAgo(row.finished_at)}</td>
    <td class="meta act">
      ${when(
        mayOperate("workflow", row.workflow_id) && !row.reported_by,
        html`<button
          type="button"
          ?disabled=${pending !== "" || row.total_stages === 0}
          aria-label="Retry ${shown(row.name || row.workflow_id)}"
          @click=${() => retryRuns([row])}
        >
          Retry
        </button>`,
      )}
    </td>
  </tr>`;
}
