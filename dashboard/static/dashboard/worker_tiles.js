// Workers as tiles: the fill is the status, with the stage that runs now and how far it is.

import { client, serverNow } from "./connection.js";
import { FollowedStates } from "./followed_states.js";
import { counted, runningFor, shortId, shown } from "./format.js";
import { html, repeat } from "./lib.js";
import { copyButton, poolLink, statusBadge, timeAgo, timeAt, when } from "./parts.js";
import { drainWorker, pendingWord } from "./actions.js";
import { mayOperate } from "./permissions.js";
import { urlOf, urlOfRun } from "./routes.js";
import { lookOf } from "./statuses.js";

/** @typedef {import("mahavishnu-client").PoolWorker} PoolWorker */
/** @typedef {import("mahavishnu-client").Run} Run */

/** The most small tiles of a pool, and the most that have room for a name. */
const MAX_SMALL = 24;
const MAX_NAMED = 4;
/** The most tiles of a page. */
const MAX_TILES = 120;
/** How many runs are followed for the progress of their stages. */
const MAX_FOLLOWED = 12;

/** The runs whose stages the shown workers run. */
export const followedRuns = () =>
  /** @type {FollowedStates<Run>} */ (new FollowedStates((id) => client.workflow(id), MAX_FOLLOWED));

/** The workers that are not offline, busy ones not before others: a tile keeps its place. @param {readonly PoolWorker[]} workers */
export const online = (workers) => workers.filter((worker) => worker.status !== "offline");

/** @param {PoolWorker} worker */
function described(worker) {
  const stage = worker.stage_name ? `, runs ${shown(worker.stage_name)}` : "";
  return `${shown(worker.worker_id)}: ${lookOf("worker", worker.status).word}${stage}${worker.draining ? ", draining" : ""}`;
}

/** The tiles of a pool in one line. @param {string} poolId @param {readonly PoolWorker[]} workers */
export function smallTiles(poolId, workers) {
  const all = online(workers);
  const tiles = all.slice(0, MAX_SMALL);
  const offline = workers.length - all.length;
  const isNamed = all.length <= MAX_NAMED;
  return html`<ul class="small-tiles" aria-label="Workers of ${shown(poolId)}">
    ${repeat(
      tiles,
      (worker) => worker.worker_id,
      (worker) =>
        html`<li>
          <a
            class="small-tile ${lookOf("worker", worker.status).colour}"
            href=${urlOf(`pools/${poolId}`, { worker: worker.worker_id })}
            title=${described(worker)}
            aria-label=${described(worker)}
            ><span class="sign" aria-hidden="true">${lookOf("worker", worker.status).sign}</span>${when(
              isNamed,
              html`<span class="text"
                >${worker.stage_name ? shown(worker.stage_name) : lookOf("worker", worker.status).word}</span
              >`,
            )}</a
          >
        </li>`,
    )}${when(all.length > tiles.length, html`<li class="muted">+${all.length - tiles.length}</li>`)}
    ${when(offline > 0, html`<li class="muted">${offline} offline</li>`)}
  </ul>`;
}

/** How far the stage of a worker is: from 0 to 1, null if it does not say. @param {PoolWorker} worker @param {FollowedStates<Run>} runs */
function progressOf(worker, runs) {
  if (!worker.workflow_id) return null;
  const run = runs.get(worker.workflow_id);
  return run?.stages.find((stage) => stage.stage_name === worker.stage_name)?.progress ?? null;
}

/**
 * The tiles of a page of a pool. Each is a link that opens the worker beside them.
 * @param {{poolId: string, workers: readonly PoolWorker[], runs: FollowedStates<Run>, opened: string, query: Record<string, string>}} shownPool
 */
export function tiles({ poolId, workers, runs, opened, query }) {
  const some = workers.slice(0, MAX_TILES);
  return html`<ul class="tiles">
      ${repeat(
        some,
        (worker) => worker.worker_id,
        (worker) => {
          const isOpen = worker.worker_id === opened;
          const url = urlOf(`pools/${poolId}`, { ...query, worker: isOpen ? "" : worker.worker_id });
          return html`<li class="tile ${lookOf("worker", worker.status).colour} ${isOpen ? "open" : ""}">
            <p class="tile-head">
              <a class="tile-name" data-row href=${url} title=${worker.worker_id} aria-expanded=${isOpen}
                >${shown(worker.worker_id)}</a
              >
              ${statusBadge("worker", worker.status, pendingWord(`worker:${worker.worker_id}`) || undefined)}
            </p>
            ${work(worker, runs)}
          </li>`;
        },
      )}
    </ul>
    ${when(workers.length > some.length, html`<p class="muted">${counted(workers.length - some.length, "more worker")}.</p>`)}`;
}

/** @param {PoolWorker} worker @param {FollowedStates<Run>} runs */
function work(worker, runs) {
  const draining = worker.draining ? " · draining" : "";
  if (!worker.workflow_id || !worker.stage_name) {
    return html`<p class="tile-work muted">
      for ${runningFor(serverNow.value - Date.parse(worker.status_changed_at))}${draining}
    </p>`;
  }
  const progress = progressOf(worker, runs);
  return html`<p class="tile-work">
      <a href=${urlOfRun(worker.workflow_id)} title="The run ${worker.workflow_id}">${shown(worker.stage_name)}</a>
      ${when(progress !== null, html`<span class="percent">${Math.round((progress ?? 0) * 100)} %</span>`)}${draining}
    </p>
    ${when(progress !== null, html`<progress class="thin" max="1" .value=${progress ?? 0} aria-label="Progress of ${shown(worker.stage_name)}"></progress>`)}`;
}

/** What is known of one worker. @param {PoolWorker} worker @param {string} poolId @param {FollowedStates<Run>} runs @param {string} closeUrl */
export function workerDetail(worker, poolId, runs, closeUrl) {
  const { worker_id: id } = worker;
  const progress = progressOf(worker, runs);
  return html`<section class="worker-detail" aria-label="Worker ${shown(id)}">
    <header>
      <h2>${shown(id)} ${copyButton(id, "the id")}</h2>
      <a class="button" href=${closeUrl}>Close</a>
    </header>
    <dl class="facts-list">
      <div>
        <dt>Status</dt>
        <dd>
          ${statusBadge("worker", worker.status, pendingWord(`worker:${id}`) || undefined)}${when(worker.draining, html` · draining: it starts no other stage`)}
        </dd>
      </div>
      <div>
        <dt>Runs</dt>
        <dd>
          ${
            worker.workflow_id
              ? html`<a href=${urlOfRun(worker.workflow_id)} title=${worker.workflow_id}
                    >${shown(worker.stage_name)} · ${shortId(worker.workflow_id)}</a
                  >
                  ${progress === null ? "" : `${Math.round(progress * 100)} %`}`
              : html`<span class="muted">nothing</span>`
          }
        </dd>
      </div>
      <div>
        <dt>Since</dt>
        <dd>${timeAt(worker.status_changed_at)} (${timeAgo(worker.status_changed_at)})</dd>
      </div>
      <div>
        <dt>Heartbeat</dt>
        <dd>${timeAt(worker.last_heartbeat_at)} or later</dd>
      </div>
      <div>
        <dt>Release</dt>
        <dd>${worker.release ? shown(worker.release) : html`<span class="muted">not set</span>`}</dd>
      </div>
      <div>
        <dt>Pool</dt>
        <dd>${poolLink(poolId)}</dd>
      </div>
      ${when(
        worker.reported_by,
        html`<div>
          <dt>Reported by</dt>
          <dd>${shown(worker.reported_by)}</dd>
        </div>`,
      )}
    </dl>
    ${when(
      mayOperate("worker", id) && !worker.draining && worker.status !== "offline" && !worker.reported_by,
      html`<p class="buttons">
        <button type="button" class="danger" @click=${() => drainWorker(worker)}>Drain the worker</button>
      </p>`,
    )}
  </section>`;
}
