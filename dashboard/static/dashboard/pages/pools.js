// The list of pools: what each does, how it did in the last hour, and what it lacks.

import { pendingWord } from "../actions.js";
import { client, follow, readsEverything, serverNow } from "../connection.js";
import { number, shown } from "../format.js";
import { html, nothing, repeat } from "../lib.js";
import { command, emptyState, loading, refused, scrollRegion, staleness, statusBadge, when } from "../parts.js";
import { PoolTrends } from "../pool_trends.js";
import { warningsOf } from "../pool_warnings.js";
import { urlOf, urlOfPool } from "../routes.js";
import { settings } from "../settings.js";
import { rateText, sparkline } from "../sparkline.js";

/** @typedef {import("mahavishnu-client").Overview} State */
/** @typedef {import("mahavishnu-client").PoolRow} PoolRow */

const MAX_HISTORIES = 24;
const ORDER = ["active", "draining", "closed"];

/** @returns {import("../main.js").Page} */
export function open() {
  const overview = follow(client.overview());
  const trends = new PoolTrends(() => overview.value?.pools, MAX_HISTORIES);
  return {
    title: () => "Pools",
    view: () => view(overview, trends),
    close() {
      overview.stop();
      trends.close();
    },
  };
}

/** @param {import("../connection.js").Followed<any>} overview @param {PoolTrends} trends */
function view(overview, trends) {
  const heading = html`<h1>Pools</h1>`;
  if (!readsEverything.value || /** @type {any} */ (overview.error)?.code === "FORBIDDEN")
    return html`${heading}${notAllowed()}`;
  if (overview.error) return html`${heading}${refused(overview.error, "the pools")}`;
  const state = /** @type {State | undefined} */ (overview.value);
  if (!state) return html`${heading}${loading("the pools")}`;
  if (state.pools.length === 0) return html`${heading}${noPools()}`;
  const rows = [...state.pools].sort(
    (a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status) || a.pool_id.localeCompare(b.pool_id),
  );
  return html`${heading}
  ${scrollRegion(
    "Pools",
    html`<table class="rows pools ${staleness()}">
      <thead>
        <tr>
          <th scope="col">Status</th>
          <th scope="col">Pool</th>
          <th scope="col">Workers</th>
          <th scope="col" class="number">Queued</th>
          <th scope="col" class="number">Running</th>
          <th scope="col" class="number">Done</th>
          <th scope="col" class="number">Failed</th>
          <th scope="col" class="number">Done / min</th>
          <th scope="col">Last hour</th>
        </tr>
      </thead>
      <tbody>
        ${repeat(
          rows,
          (pool) => pool.pool_id,
          (pool) => rowView(pool, state, trends),
        )}
      </tbody>
    </table>`,
  )}
  ${when(state.truncated && state.pools.length >= 100, html`<p class="muted more">The newest 100 pools are shown.</p>`)}`;
}

function notAllowed() {
  return emptyState(
    "You may not see all pools",
    html`<p>
      The list needs the permission to read all events. A pool that you have access to is at its own address, such as
      <code>${urlOf("pools/ID")}</code>.
    </p>`,
  );
}

function noPools() {
  return emptyState(
    "There is no pool yet",
    html`<p>A pool is a group of workers. Create one, and start a worker for it:</p>
      <p>${command("python manage.py create_pool reports")}</p>
      <p>${command("python -m celery --app mahavishnu_site worker --queues reports")}</p>
      <p><a href=${settings.docs}>The documentation</a> says more.</p>`,
  );
}

/** @param {PoolRow} pool @param {State} state @param {PoolTrends} trends */
function rowView(pool, state, trends) {
  const { pool_id: id, metrics } = pool;
  const rate = trends.doneRate(pool);
  const history = trends.historyOf(id);
  return html`<tr>
    <td class="state">${statusBadge("pool", pool.status, pendingWord(`pool:${id}`) || undefined)}</td>
    <td class="title">
      <a class="run-link" data-row href=${urlOfPool(id)}><span class="name">${shown(id)}</span></a>
    </td>
    <td class="workers">${workerCounts(metrics)}${warningsOf(pool, state.workflows)}</td>
    <td class="number" data-name="queued">${number(metrics.queue_size)}</td>
    <td class="number" data-name="running">${number(metrics.tasks_running)}</td>
    <td class="number" data-name="done">${number(metrics.tasks_completed)}</td>
    <td class="number ${metrics.tasks_failed ? "failure" : ""}" data-name="failed">${number(metrics.tasks_failed)}</td>
    <td class="number" data-name="done / min">${rate === null ? "–" : rateText(rate)}</td>
    <td class="trend">
      ${history ? sparkline(history.grid("done", serverNow.value), "Completed stages per minute", "success") : nothing}
    </td>
  </tr>`;
}

/** How many workers of a pool have each status. @param {PoolRow["metrics"]} metrics */
export function workerCounts(metrics) {
  const { active_workers: busy, idle_workers: idle, error_workers: failed, worker_count: all } = metrics;
  const offline = Math.max(0, all - busy - idle - failed);
  if (all === 0) return html`<span class="muted">no workers</span>`;
  /** @type {[string, number][]} */
  const counts = [
    ["busy", busy],
    ["idle", idle],
    ["error", failed],
    ["offline", offline],
  ];
  return html`<span class="worker-counts"
    >${counts.map(([status, count]) => (count ? statusBadge("worker", status, `${number(count)} ${status === "error" ? "in error" : status}`) : nothing))}</span
  >`;
}
