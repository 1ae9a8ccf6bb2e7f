// The newest runs of a pool: read once, changed by events, and read again when there are new ones.

import { client, onEvents, readsEverything } from "./connection.js";
import { shown } from "./format.js";
import { html, repeat, signal } from "./lib.js";
import { heldBadge, runLink, scrollRegion, stageProgress, statusBadge, timeAgo, when } from "./parts.js";
import { Refresher } from "./refresher.js";
import { errorLine } from "./run_now.js";
import { foldRows } from "./run_rows.js";
import { tookText } from "./pages/workflows.js";

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
    return scrollRegion(
      "Workflows of the pool",
      html`<table class="rows runs">
        <thead>
          <tr>
            <th scope="col">Status</th>
            <th scope="col">Workflow</th>
            <th scope="col">Stages</th>
            <th scope="col" class="wide">Stage now, or error</th>
            <th scope="col">Created</th>
            <th scope="col" class="number">Took</th>
          </tr>
        </thead>
        <tbody>
          ${repeat(
            rows,
            (row) => row.workflow_id,
            (row) =>
              html`<tr>
                <td class="state">${statusBadge("workflow", row.status)} ${when(row.held, heldBadge())}</td>
                <td class="title">${runLink(row)}</td>
                <td class="meta">${stageProgress(row)}</td>
                <td class="wide ${row.error && row.status !== "cancelled" ? "error" : ""}">
                  ${row.error ? errorLine(row.error) : shown(row.stage)}
                </td>
                <td class="meta">${timeAgo(row.created_at)}</td>
                <td class="meta number">${tookText(row)}</td>
              </tr>`,
          )}
        </tbody>
      </table>`,
    );
  }
}
