// One pool: whether it takes work, how it does and did, its workers, and its newest runs.

import { drainPool, pendingWord, reopenPool } from "../actions.js";
import { client, follow, isLive, serverNow } from "../connection.js";
import { number, shown } from "../format.js";
import { computed, effect, html, signal, untracked } from "../lib.js";
import { command, copyButton, emptyPage, loading, refusedPage, staleness, statusBadge, when } from "../parts.js";
import { mayOperate } from "../permissions.js";
import { PoolCharts } from "../pool_charts.js";
import { PoolHistory } from "../pool_history.js";
import { PoolRuns } from "../pool_runs.js";
import { poolWarnings } from "../pool_warnings.js";
import { changeQuery, route, urlOf, urlOfAdmin } from "../routes.js";
import { settings } from "../settings.js";
import { followedRuns, online, tiles, workerDetail } from "../worker_tiles.js";
import { workerCounts } from "./pools.js";

/** @typedef {import("mahavishnu-client").Pool} Pool */

/** @type {[string, string, number][]} */
const RANGES = [
  ["1h", "1 h", 60],
  ["6h", "6 h", 360],
  ["24h", "24 h", 1440],
];

const minutesOf = (/** @type {string | null} */ range) => (RANGES.find(([name]) => name === range) ?? RANGES[0])[2];

/** @param {string} id @returns {import("../main.js").Page} */
export function open(id) {
  const pool = follow(client.pool(id));
  const minutes = computed(() => minutesOf(route.value.query.get("range")));
  const history = signal(new PoolHistory(id, minutes.peek()));
  const stopReading = effect(() => {
    const wanted = minutes.value;
    if (history.peek().minutes === wanted) return;
    history.peek().close();
    history.value = new PoolHistory(id, wanted);
  });
  const stopAdding = effect(() => {
    const nowMs = serverNow.value;
    if (isLive.value) untracked(() => pool.value && history.value.add(pool.value.metrics, nowMs));
  });
  const parts = {
    id,
    pool,
    series: computed(() => history.value.series()),
    isKnown: () => history.value.isKnown.value,
    minutes,
    charts: new PoolCharts(),
    runs: followedRuns(),
    newest: new PoolRuns(id),
  };
  return {
    title: () => `Pool ${shown(id)}`,
    view: () => view(parts),
    close() {
      pool.stop();
      stopReading();
      stopAdding();
      history.peek().close();
      for (const part of [parts.charts, parts.runs, parts.newest]) part.close();
    },
  };
}

/** @typedef {{id: string, pool: import("../connection.js").Followed<any>, series: {value: import("../pool_history.js").Series}, isKnown: () => boolean, minutes: {value: number}, charts: PoolCharts, runs: ReturnType<typeof followedRuns>, newest: PoolRuns}} Parts */

/** @param {Parts} parts */
function view(parts) {
  const { id, pool: followed } = parts;
  if (followed.error) return refusedPage(followed.error, "this pool");
  const pool = /** @type {Pool | null | undefined} */ (followed.value);
  if (pool === undefined)
    return html`<h1>Pool ${shown(id)}</h1>
      ${loading("the pool")}`;
  if (pool === null) return missing(id);
  return html`<article class="pool ${staleness()}">
    ${head(pool)}
    ${poolWarnings(pool, parts.newest.rows.value ?? []).map(
      (text) =>
        html`<section class="banner waiting">
          <p><span aria-hidden="true">!</span> <strong>${text}</strong></p>
        </section>`,
    )}
    ${counters(pool)} ${historySection(parts)} ${workersSection(pool, parts)}
    <section aria-labelledby="runs-title">
      <div class="section-head">
        <h2 id="runs-title">Workflows</h2>
        <a href=${urlOf("workflows", { pool: id })}>All workflows of the pool</a>
      </div>
      ${parts.newest.view()}
    </section>
  </article>`;
}

/** @param {string} id */
function missing(id) {
  return emptyPage(
    "There is no such pool",
    html`<p>No pool has the id <code>${shown(id)}</code>. A worker that starts for a pool creates it.</p>
      <p><a href=${urlOf("pools")}>All pools</a></p>`,
  );
}

/** @param {Pool} pool */
function head(pool) {
  const { pool_id: id, status } = pool;
  const pending = pendingWord(`pool:${id}`);
  const mayChange = mayOperate("pool", id) && !pool.reported_by;
  return html`<header class="page-head">
    <div>
      <h1>Pool ${shown(id)} ${copyButton(id, "the id")}</h1>
      <p class="facts">
        ${statusBadge("pool", status, pending || undefined)}
        ${when(status === "draining", html`<span>accepts no new workflows, finishes what it has</span>`)}
        ${when(status === "closed", html`<span>accepts no work</span>`)}
        ${when(pool.reported_by, html`<span>reported by ${shown(pool.reported_by)}</span>`)}
        ${when(settings.admin, html`<span><a href=${urlOfAdmin("pool", id)}>in the admin</a></span>`)}
      </p>
    </div>
    ${when(mayChange && status === "active", html`<button type="button" ?disabled=${pending !== ""} @click=${() => drainPool(pool)}>Drain</button>`)}
    ${when(mayChange && status === "draining", html`<button type="button" class="primary" ?disabled=${pending !== ""} @click=${() => reopenPool(pool)}>Reopen</button>`)}
  </header>`;
}

/** @param {Pool} pool */
function counters({ metrics }) {
  /** @type {[string, number, string][]} */
  const counts = [
    ["Busy", metrics.active_workers, "running"],
    ["Idle", metrics.idle_workers, "success"],
    ["In error", metrics.error_workers, "failure"],
    ["Queued", metrics.queue_size, "waiting"],
    ["Running", metrics.tasks_running, "running"],
    ["Done", metrics.tasks_completed, ""],
    ["Failed", metrics.tasks_failed, "failure"],
  ];
  return html`<dl class="counters">
    ${counts.map(
      ([name, count, colour]) =>
        html`<div class="counter">
          <dt class="counter-name">${name}</dt>
          <dd><strong class=${count ? colour : ""}>${number(count)}</strong></dd>
        </div>`,
    )}
  </dl>`;
}

/** @param {Parts} parts */
function historySection({ series, isKnown, minutes, charts }) {
  const shownSeries = series.value;
  charts.show(shownSeries, minutes.value * 60_000, serverNow.peek());
  return html`<section aria-labelledby="history-title">
    <div class="section-head">
      <h2 id="history-title">History</h2>
      <div class="chips" role="group" aria-label="Time shown">
        ${RANGES.map(
          ([name, word, each]) =>
            html`<button
              type="button"
              class="chip"
              aria-pressed=${each === minutes.value}
              @click=${() => changeQuery({ range: name === RANGES[0][0] ? "" : name })}
            >
              ${word}
            </button>`,
        )}
      </div>
    </div>
    ${charts.view(shownSeries)}
    ${when(isKnown() && shownSeries.atMs.length === 0, html`<p class="muted calm">Nothing is known yet: the scheduler takes a sample of each open pool every 10 seconds.</p>`)}
  </section>`;
}

/** @param {Pool} pool @param {Parts} parts */
function workersSection(pool, { id, runs }) {
  const { query } = route.value;
  const all = online(pool.workers);
  const offline = pool.workers.filter((worker) => worker.status === "offline");
  const opened = query.get("worker") ?? "";
  const openedWorker = pool.workers.find((worker) => worker.worker_id === opened);
  runs.keep(all.flatMap((worker) => (worker.workflow_id ? [worker.workflow_id] : [])));
  const range = query.get("range") ?? "";
  const shownPool = { poolId: id, runs, opened, query: { range } };
  return html`<section aria-labelledby="workers-title">
    <div class="section-head">
      <h2 id="workers-title">Workers</h2>
      ${workerCounts(pool.metrics)}
    </div>
    <div class="workers-and-detail">
      <div>
        ${all.length ? tiles({ ...shownPool, workers: all }) : noWorkers(id)}
        ${when(
          offline.length > 0,
          html`<details class="offline" ?open=${openedWorker?.status === "offline"}>
            <summary>${number(offline.length)} offline</summary>
            ${tiles({ ...shownPool, workers: offline })}
          </details>`,
        )}
        ${when(pool.truncated, html`<p class="muted">The pool has more workers than are shown.</p>`)}
      </div>
      ${when(openedWorker, openedWorker && workerDetail(openedWorker, id, runs, urlOf(`pools/${id}`, { range })))}
    </div>
  </section>`;
}

/** @param {string} id */
const noWorkers = (id) =>
  html`<p class="calm">Start a worker: ${command(`python -m celery --app mahavishnu_site worker --queues ${id}`)}</p>`;
