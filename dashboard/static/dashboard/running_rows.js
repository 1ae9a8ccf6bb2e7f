// The rows of what runs now. A row keeps its place: a run that has ended stays for a moment, then the next one takes it.

import { onEvents } from "./connection.js";
import { foldRows } from "./run_rows.js";

const MAX_ROWS = 12;
/** How long the outcome of a run is shown in its row. */
const OUTCOME_SHOWN_MS = 1_500;

/** @typedef {import("mahavishnu-client").RunRow} RunRow */
/** @typedef {{row: RunRow, endedAtMs: number | null}} Slot */

export class RunningRows {
  /** @type {Slot[]} */
  #slots = [];
  #stop = onEvents((item) => this.#onItem(item));

  /**
   * Return the rows to show.
   * @param {readonly RunRow[]} unfinished The newest first.
   * @param {number} nowMs
   * @returns {RunRow[]}
   */
  arrange(unfinished, nowMs) {
    const left = new Map(unfinished.map((row) => [row.workflow_id, row]));
    for (const slot of this.#slots) {
      const row = left.get(slot.row.workflow_id);
      if (row) Object.assign(slot, { row, endedAtMs: null });
      else slot.endedAtMs ??= nowMs;
      left.delete(slot.row.workflow_id);
    }
    // Those that have run for longest come first: they are what a person looks for.
    const waiting = [...left.values()]
      .reverse()
      .sort((a, b) => Number(b.status === "running") - Number(a.status === "running"));
    this.#slots = this.#slots.flatMap((slot) => {
      if (slot.endedAtMs === null || nowMs - slot.endedAtMs < OUTCOME_SHOWN_MS) return [slot];
      const row = waiting.shift();
      return row ? [slotOf(row)] : [];
    });
    while (this.#slots.length < MAX_ROWS && waiting.length) {
      this.#slots.push(slotOf(/** @type {RunRow} */ (waiting.shift())));
    }
    return this.#slots.map(({ row }) => row);
  }

  close() {
    this.#stop();
  }

  /** Keep the last state of runs that end before they are drawn again. @param {any} item */
  #onItem(item) {
    if (item.name === undefined) return;
    for (const slot of this.#slots) [slot.row] = foldRows(/** @type {any} */ ([slot.row]), item);
  }
}

/** @param {RunRow} row @returns {Slot} */
const slotOf = (row) => ({ row, endedAtMs: null });
