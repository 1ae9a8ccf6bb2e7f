// The pools of the overview: one line each, with a tile for each worker, and what all of them did in the last hour.

import { client } from "./connection.js";
import { FollowedStates } from "./followed_states.js";
import { counted } from "./format.js";
import { html, repeat } from "./lib.js";
import { command, poolLink, statusBadge, when } from "./parts.js";
import { warningsOf } from "./pool_warnings.js";
import { urlOf } from "./routes.js";
import { sparkline } from "./sparkline.js";
import { smallTiles } from "./worker_tiles.js";

/** @typedef {import("mahavishnu-client").Overview} State */
/** @typedef {import("mahavishnu-client").Pool} Pool */
/** @typedef {import("mahavishnu-client").PoolRow} PoolRow */

/** The most pools that are shown, with their workers; the others are on their own page. */
const MAX_POOLS = 6;

export const followedPools = () =>
  /** @type {FollowedStates<Pool>} */ (new FollowedStates((id) => client.pool(id), MAX_POOLS));

/** The pools to show: open ones first, by name, so that none changes its place while it works. @param {State} state */
function shownPools(state) {
  const order = ["active", "draining", "closed"];
  const sorted = [...state.pools].sort(
    (a, b) => order.indexOf(a.status) - order.indexOf(b.status) || a.pool_id.localeCompare(b.pool_id),
  );
  return sorted.filter((pool) => pool.status !== "closed").slice(0, MAX_POOLS);
}

/**
 * The pools of the overview.
 * @param {State} state
 * @param {FollowedStates<Pool>} pools Those that are shown are followed, for their workers.
 * @param {import("./pool_trends.js").PoolTrends} trends
 */
export function poolStrip(state, pools, trends) {
  const rows = shownPools(state);
  pools.keep(rows.map((pool) => pool.pool_id));
  const { queued, done } = trends.total();
  const more = state.pools.length - rows.length;
  return html`<section aria-labelledby="pools-title">
    <div class="section-head">
      <h2 id="pools-title">Pools</h2>
      <p class="trends">
        <span class="muted">queued</span> ${sparkline(queued, "Queued stages", "waiting")}
        <span class="muted">done / min</span> ${sparkline(done, "Completed stages per minute", "success")}
        <span class="muted">60 min</span>
      </p>
      <a href=${urlOf("pools")}>All pools</a>
    </div>
    ${
      rows.length === 0
        ? html`<p class="muted calm">No pool is open. Create one: ${command("python manage.py create_pool local")}</p>`
        : html`<ul class="pool-strip">
            ${repeat(
              rows,
              (pool) => pool.pool_id,
              (pool) =>
                html`<li>
                  <span class="pool-name">${poolLink(pool.pool_id)}</span> ${statusBadge("pool", pool.status)}
                  ${poolWorkers(pool, pools.get(pool.pool_id))} ${warningsOf(pool, state.workflows)}
                </li>`,
            )}
          </ul>`
    }
    ${when(more > 0, html`<p class="muted"><a href=${urlOf("pools")}>${counted(more, "more pool")}</a></p>`)}
  </section>`;
}

/** @param {PoolRow} row @param {Pool | null | undefined} pool */
function poolWorkers({ pool_id, metrics }, pool) {
  if (pool && pool.workers.length > 0) return smallTiles(pool_id, pool.workers);
  if (metrics.worker_count > 0) return html`<span class="muted">${counted(metrics.worker_count, "worker")}</span>`;
  return html`<span class="muted">no worker</span>`;
}
