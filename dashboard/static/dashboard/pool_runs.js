// The newest runs of a pool: read once, changed by events, and read again when there are new ones.

import { client, onEvents, readsEverything } from "./connection.js";
import { html, signal } from "./lib.js";
import { Refresher } from "./refresher.js";
import { foldRows } from "./run_rows.js";
import { runTable } from "./run_table.js";

const MAX_ROWS = 8;
const READ_EVERY_MS = 3_000;

export class PoolRuns {
  /** Undefined until they are known. */
  rows = signal(/** @type {import("./run_rows.js").Row[] | undefined} */ (undefined));
  #stop = () => {};

  /** @param {string} poolId */
  constructor(poolId) {
    this.reader = new Refresher(async () => {
      const { workflows } = await client.listWorkflows({ pool_id: poolId, limit: MAX_ROWS });
      this.rows.value = /** @type {any} */ (workflows);
    }, READ_EVERY_MS);
    // Without the events of everything, the list would be old and look as if it were not.
    if (!readsEverything.peek()) return;
    this.reader.want();
    this.#stop = onEvents((item) => {
      if (item.name === undefined || (item.name === "workflow.created" && item.data.pool_id === poolId))
        this.reader.want();
      else if (this.rows.peek()) this.rows.value = foldRows(this.rows.peek() ?? [], item);
    });
  }

  close() {
    this.#stop();
    this.reader.close();
  }

  view() {
    const rows = this.rows.value;
    if (!rows) return "";
    if (rows.length === 0) return html`<p class="muted calm">No stored workflow belongs to this pool.</p>`;
    return runTable(rows, "Workflows of the pool");
  }
}
