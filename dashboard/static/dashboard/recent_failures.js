// The workflows that failed lately: read once, then kept up by events.

import { client, onEvents, serverNow } from "./connection.js";
import { signal } from "./lib.js";
import { Refresher } from "./refresher.js";

/** @type {("failed" | "timeout")[]} */
const FAILED = ["failed", "timeout"];
const HOURS = 24;
/** The list is ordered by creation, and those that ended last are shown. */
const READ_ROWS = 100;
const READ_EVERY_MS = 5_000;
const MAX_FAILURES = 6;
/** How often the failures that are too old by now are left out. */
const FORGET_EVERY_MS = 60_000;
/** A clock of the server that differs by more begins another time than was asked for. */
const MAX_CLOCK_ERROR_MS = 60_000;

/** @typedef {import("./run_rows.js").Row} Row */

export class RecentFailures {
  /** Undefined until they are known; the newest first. */
  rows = signal(/** @type {Row[] | undefined} */ (undefined));
  /** How many there were in 24 hours. */
  count = signal(0);
  /** Whether any workflow is stored; undefined until it is known. */
  hasRuns = signal(/** @type {boolean | undefined} */ (undefined));
  error = signal(/** @type {Error | null} */ (null));
  #reader = new Refresher(() => this.#read(), READ_EVERY_MS);
  #stop = onEvents((item) => this.#onItem(item));
  #timer = setInterval(() => this.count.peek() > 0 && this.#reader.want(), FORGET_EVERY_MS);

  constructor() {
    this.#reader.want();
  }

  close() {
    this.#stop();
    clearInterval(this.#timer);
    this.#reader.close();
  }

  async #read() {
    const nowMs = serverNow.peek();
    const finished_from = new Date(nowMs - HOURS * 3_600_000).toISOString();
    try {
      const [{ workflows, counts }, any] = await Promise.all([
        client.listWorkflows({ status: FAILED, finished_from, limit: READ_ROWS, counts: true }),
        this.hasRuns.peek() ? null : client.listWorkflows({ limit: 1 }),
      ]);
      if (any) this.hasRuns.value = any.workflows.length > 0;
      this.count.value = FAILED.reduce((total, status) => total + /** @type {any} */ (counts?.[status] ?? 0), 0);
      this.#show(/** @type {any} */ (workflows));
      this.error.value = null;
      // The time of the server is known since its first answer.
      if (Math.abs(serverNow.peek() - nowMs) > MAX_CLOCK_ERROR_MS) this.#reader.want();
    } catch (error) {
      if (this.rows.peek() === undefined) this.error.value = /** @type {Error} */ (error);
      throw error;
    }
  }

  /** @param {any} item */
  #onItem(item) {
    if (item.name === undefined) this.#reader.want();
    else if (item.data.test === true) return;
    else if (item.name === "workflow.created") this.hasRuns.value = true;
    else if (item.name === "workflow.failed") this.#onFailure(item);
    else if (item.name === "workflow.retried" || item.name === "workflow.removed") this.#onGone(item.data.workflow_id);
  }

  /** The event has no counts of stages: they come when the list is read again. @param {any} event */
  #onFailure({ data }) {
    const { workflow_id, name, status, error, timestamp } = data;
    this.count.value++;
    /** @type {any} */
    const row = {
      workflow_id,
      name,
      status,
      error,
      stages_completed: 0,
      total_stages: 0,
      pool_id: null,
      created_at: timestamp,
      started_at: null,
      finished_at: timestamp,
      held: null,
    };
    this.#show([row, ...(this.rows.peek() ?? []).filter((other) => other.workflow_id !== workflow_id)]);
    this.#reader.want();
  }

  /** @param {string} workflowId */
  #onGone(workflowId) {
    // One that is not shown may have failed too: the count is read again.
    this.#reader.want();
    const rows = this.rows.peek();
    if (!rows?.some((row) => row.workflow_id === workflowId)) return;
    this.count.value = Math.max(0, this.count.peek() - 1);
    this.#show(rows.filter((row) => row.workflow_id !== workflowId));
  }

  /** @param {Row[]} rows */
  #show(rows) {
    const newest = (/** @type {Row} */ a, /** @type {Row} */ b) =>
      Date.parse(b.finished_at ?? "") - Date.parse(a.finished_at ?? "");
    this.rows.value = [...rows].sort(newest).slice(0, MAX_FAILURES);
  }
}
