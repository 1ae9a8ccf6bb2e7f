// The sub-runs of a run: read once, changed by events, and read again when there are new ones.

import { client, onEvents, readsEverything } from "./connection.js";
import { counted, number } from "./format.js";
import { html, signal } from "./lib.js";
import { when } from "./parts.js";
import { Refresher } from "./refresher.js";
import { urlOf } from "./routes.js";
import { foldRows } from "./run_rows.js";
import { runTable } from "./run_table.js";
import { lookOf } from "./statuses.js";

/** The newest ones. The list of workflows has all of them. */
const MAX_ROWS = 20;
const READ_EVERY_MS = 3_000;
/** The events after which the counts are others. */
const CHANGE_COUNTS = ["started", "completed", "failed", "cancelled", "retried", "removed"].map(
  (verb) => `workflow.${verb}`,
);
/** Events of a run that start no sub-run, and end none. */
const CHANGE_NOTHING = ["workflow.stage_log", "workflow.stage_progress", "workflow.step_completed"];

export class SubRuns {
  rows = signal(/** @type {import("./run_rows.js").Row[]} */ ([]));
  hasMore = signal(false);
  counts = signal(/** @type {Record<string, number>} */ ({}));
  #reader;
  #stops;

  /** @param {string} workflowId */
  constructor(workflowId) {
    this.workflowId = workflowId;
    this.#reader = new Refresher(() => this.#read(), READ_EVERY_MS);
    this.#reader.want();
    this.#stops = [onEvents((item) => this.#onItem(item))];
    // A user who may not read the events of everything sees those of the run: its sub-runs begin and end with them.
    if (!readsEverything.peek())
      this.#stops.push(
        client.on(`workflow:${workflowId}`, (/** @type {any} */ item) => {
          if (!CHANGE_NOTHING.includes(item.name)) this.#reader.want();
        }),
      );
  }

  close() {
    for (const stop of this.#stops) stop();
    this.#reader.close();
  }

  async #read() {
    const page = await client.listWorkflows({ parent_id: this.workflowId, limit: MAX_ROWS, counts: true });
    this.rows.value = /** @type {any} */ (page.workflows);
    this.hasMore.value = page.next_cursor !== null;
    this.counts.value = page.counts ?? {};
  }

  /** @param {any} item */
  #onItem(item) {
    if (item.name === undefined) return this.#reader.want();
    if (item.name === "workflow.created") {
      if (item.data.parent_id === this.workflowId) this.#reader.want();
      return;
    }
    const rows = this.rows.peek();
    if (rows.length === 0) return;
    const isListed = rows.some((row) => row.workflow_id === item.data.workflow_id);
    // An event does not say whose sub-run it is about.
    if (CHANGE_COUNTS.includes(item.name) && (isListed || this.hasMore.peek())) this.#reader.want();
    if (isListed) this.rows.value = foldRows(rows, item);
  }

  /** The sub-runs; nothing if there are none. */
  view() {
    const rows = this.rows.value;
    if (rows.length === 0) return "";
    const counts = Object.entries(this.counts.value).filter(([, count]) => count);
    const total = counts.reduce((sum, [, count]) => sum + count, 0);
    return html`<h2>
        ${counted(total, "sub-run")}
        <span class="count"
          >${counts.map(([status, count]) => `${number(count)} ${lookOf("workflow", status).word}`).join(", ")}</span
        >
      </h2>
      ${runTable(rows, "Sub-runs of the workflow")}
      ${when(this.hasMore.value, html`<p class="more"><a href=${urlOf("workflows", { parent: this.workflowId })}>All sub-runs</a></p>`)}`;
  }
}
