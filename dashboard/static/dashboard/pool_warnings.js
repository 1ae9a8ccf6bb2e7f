// What a person should know of a pool: work that waits, and no worker that can take it.

import { counted } from "./format.js";
import { html } from "./lib.js";
import { when } from "./parts.js";

/** @typedef {import("mahavishnu-client").PoolRow} PoolRow */
/** @typedef {import("mahavishnu-client").RunRow} RunRow */

/** @param {PoolRow} pool @param {readonly RunRow[]} runs The unfinished runs, as far as they are known. @returns {string[]} */
export function poolWarnings({ pool_id, status, metrics }, runs) {
  const warnings = [];
  const online = metrics.active_workers + metrics.idle_workers + metrics.error_workers;
  const held = runs.filter((run) => run.pool_id === pool_id && run.held).length;
  if (online === 0 && metrics.queue_size > 0)
    warnings.push(
      `No worker is online: ${counted(metrics.queue_size, "stage")} ${metrics.queue_size === 1 ? "waits" : "wait"}`,
    );
  else if (online === 0 && status === "active") warnings.push("No worker is online");
  else if (online > 0 && online === metrics.error_workers) warnings.push("Every worker is in error");
  if (held > 0)
    warnings.push(
      `${counted(held, "workflow")} ${held === 1 ? "is" : "are"} held: no worker can take ${held === 1 ? "it" : "them"}`,
    );
  return warnings;
}

/** @param {PoolRow} pool @param {readonly RunRow[]} runs */
export function warningsOf(pool, runs) {
  const warnings = poolWarnings(pool, runs);
  return when(
    warnings.length > 0,
    html`<span class="warnings"
      >${warnings.map((text) => html`<span class="waiting"><span aria-hidden="true">!</span> ${text}</span>`)}</span
    >`,
  );
}
