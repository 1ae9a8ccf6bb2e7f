// The runs that the filters of an address select: read page by page, and changed by events.

import { client, isLive, onEvents, serverNow } from "./connection.js";
import { shown } from "./format.js";
import { signal } from "./lib.js";
import { Refresher } from "./refresher.js";
import { route } from "./routes.js";
import { RowFlashes } from "./row_flashes.js";
import { foldRows } from "./run_rows.js";
import { STATUSES } from "./statuses.js";
import { toast } from "./toasts.js";

const PAGE_ROWS = 100;
/** How often an empty list is read again while events come that may bring rows. */
const EMPTY_EVERY_MS = 1000;
/** The events after which a run may belong to an empty list. */
const BRINGS_ROWS = ["created", "started", "completed", "failed", "cancelled", "retried"].map(
  (verb) => `workflow.${verb}`,
);

/** The choices of "created" and "ended": the name in the address, the words, and the seconds. */
/** @type {[string, string, number][]} */
export const PERIODS = [
  ["1h", "Last hour", 3600],
  ["24h", "Last 24 hours", 86_400],
  ["7d", "Last 7 days", 604_800],
];

/** The rows of the filters in the address. */
export class RunList {
  rows = signal(/** @type {import("./run_rows.js").Row[] | null} */ (null));
  error = signal(/** @type {Error | null} */ (null));
  counts = signal(/** @type {Record<string, number> | null} */ (null));
  newRuns = signal(0);
  isReading = signal(false);
  flashes = new RowFlashes();
  selected = signal(/** @type {Set<string>} */ (new Set()));
  /** Where the next page begins. @type {import("./lib.js").Signal<string | null>} */
  cursor = signal(null);
  /** Null until a drawing has asked for the list. @type {string | null} */
  #shownFilters = null;
  /** The positions of the new runs that were announced while the first page is read. @type {number[]} */
  #announced = [];
  #reader = new Refresher(() => this.#readFirst(), 0);
  #emptyReader = new Refresher(async () => (this.#isEmpty() ? this.#readFirst() : undefined), EMPTY_EVERY_MS);
  #stop = onEvents((item) => this.#onItem(item));

  /** Read the first page, if the filters have changed. A view calls it with each drawing. */
  follow() {
    const { page, query } = route.value;
    const filters = query.toString();
    // The address of the next page comes before its module.
    if (page !== "workflows" || filters === this.#shownFilters) return;
    this.#shownFilters = filters;
    // There is no answer for now, and what was read is not what these filters ask for.
    if (!isLive.peek()) this.rows.value = null;
    this.read();
  }

  /** Begin the list anew. */
  read() {
    this.#reader.want();
  }

  /** Add the next page. */
  async readOlder() {
    if (this.isReading.peek()) return;
    try {
      const page = await this.#readPage(this.cursor.peek());
      if (!page) return;
      const rows = this.rows.peek() ?? [];
      const known = new Set(rows.map((row) => row.workflow_id));
      this.rows.value = [...rows, ...page.workflows.filter((row) => !known.has(row.workflow_id))];
      this.cursor.value = page.next_cursor;
    } catch (error) {
      toast(`Older workflows could not be read: ${shown(/** @type {Error} */ (error).message)}`);
    }
  }

  async #readFirst() {
    const filters = this.#shownFilters;
    this.#announced = [];
    try {
      const page = await this.#readPage(null);
      if (!page) return;
      this.rows.value = page.workflows;
      this.cursor.value = page.next_cursor;
      this.counts.value = page.counts ?? null;
      this.newRuns.value = page.workflows.length && this.#announced.filter((seq) => seq > page.seq).length;
      this.selected.value = new Set();
      this.error.value = null;
    } catch (error) {
      if (filters !== this.#shownFilters) return;
      this.error.value = /** @type {Error} */ (error);
      throw error;
    }
  }

  /**
   * @param {string | null} cursor Null for the first page.
   * @returns {Promise<{workflows: any[], next_cursor: string | null, seq: number, counts?: Record<string, number>} | null>}
   *   Null if the filters have changed meanwhile.
   */
  async #readPage(cursor) {
    const filters = this.#shownFilters;
    this.isReading.value = true;
    try {
      const page = await client.listWorkflows({
        ...requestOf(new URLSearchParams(filters ?? "")),
        cursor,
        limit: PAGE_ROWS,
        counts: cursor === null,
      });
      return filters === this.#shownFilters ? /** @type {any} */ (page) : null;
    } finally {
      if (filters === this.#shownFilters) this.isReading.value = false;
    }
  }

  /** @param {string} id @param {boolean} isSelected */
  select(id, isSelected) {
    const selected = new Set(this.selected.peek());
    if (isSelected) selected.add(id);
    else selected.delete(id);
    this.selected.value = selected;
  }

  close() {
    this.#stop();
    this.#reader.close();
    this.#emptyReader.close();
  }

  /** Whether there are no rows that could move under the reader's eyes. */
  #isEmpty() {
    return this.rows.peek()?.length === 0 && this.cursor.peek() === null;
  }

  /** @param {any} item */
  #onItem(item) {
    const isNew = item.name === "workflow.created" && item.data.test !== true && matches(item.data);
    if (isNew && this.isReading.peek()) this.#announced.push(item.seq);
    const rows = this.rows.peek();
    if (!rows) return;
    if (item.name === undefined) this.read();
    else if (this.#isEmpty()) {
      if (BRINGS_ROWS.includes(item.name) && item.data.test !== true) this.#emptyReader.want();
    } else if (isNew) this.newRuns.value++;
    else if (item.name === "workflow.removed")
      this.rows.value = rows.filter((row) => row.workflow_id !== item.data.workflow_id);
    else this.rows.value = foldRows(rows, item);
  }
}

/** Return the request for the filters of an address. @param {URLSearchParams} query @returns {any} */
function requestOf(query) {
  const status = query
    .getAll("status")
    .flatMap((text) => text.split(","))
    .filter((text) => text in STATUSES.workflow);
  return {
    status: status.length ? status : null,
    name: query.get("name") || null,
    pool_id: query.get("pool") || null,
    parent_id: query.get("parent") || null,
    root_id: query.get("root") || null,
    q: query.get("q")?.trim() || null,
    from: beginOf(query.get("since")),
    finished_from: beginOf(query.get("ended")),
  };
}

/** When a period up to now began; null for a period that is not one of the choices. @param {string | null} period */
function beginOf(period) {
  const found = PERIODS.find(([name]) => name === period);
  return found ? new Date(serverNow.peek() - found[2] * 1000).toISOString() : null;
}

/** Return whether a new run belongs to the list, as far as its event shows. @param {any} created */
function matches(created) {
  const { query } = route.peek();
  const status = query.get("status");
  if (
    query.get("q") ||
    query.get("ended") ||
    (status && !status.split(",").includes("pending") && !status.split(",").includes("running"))
  )
    return false;
  return [
    ["name", created.name],
    ["pool", created.pool_id],
    ["parent", created.parent_id],
    ["root", created.root_id],
  ].every(([key, value]) => !query.get(key) || query.get(key) === value);
}
