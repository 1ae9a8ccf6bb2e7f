// The items of a stage that runs once for each value of a list: how far they are, and a page of them on request.

import { client, serverNow } from "./connection.js";
import { cut, duration, firstLine, number, runningFor, shown } from "./format.js";
import { html, repeat, signal } from "./lib.js";
import { loading, scrollRegion, statusBadge, when } from "./parts.js";
import { Refresher } from "./refresher.js";
import { waitsFor } from "./run_notes.js";

/** @typedef {import("mahavishnu-client").Stage} Stage */
/** @typedef {import("mahavishnu-client").StageStatus} StageStatus */

/** The items on one page: no more are kept or drawn. */
const PAGE_ROWS = 50;
/** A page with a filter may be empty and not be the last: so many are read for one. */
const MAX_PAGES_READ = 5;
const READ_EVERY_MS = 1_000;
/** How many lists are open at once: the next one closes the oldest. */
const MAX_OPEN = 4;
const MAX_ERROR_CHARACTERS = 200;

/** @type {[string, StageStatus[]][]} */
const FILTERS = [
  ["All", []],
  ["Failed", ["failed"]],
  ["Unfinished", ["pending", "queued", "running", "waiting"]],
  ["Completed", ["completed"]],
];

/** One page of the items of a stage, read again as they change. */
class ItemList {
  /** Null until they are known. */
  rows = signal(/** @type {readonly Stage[] | null} */ (null));
  error = signal(/** @type {Error | null} */ (null));
  filter = signal(0);
  /** Where the pages begin that lead to this one; the last is that of this page. */
  starts = signal(/** @type {(number | null)[]} */ ([null]));
  /** Where the next page begins; null on the last one. */
  next = signal(/** @type {number | null} */ (null));
  #reader = new Refresher(() => this.#read(), READ_EVERY_MS);
  #stop;

  /** @param {string} workflowId @param {string} stageName */
  constructor(workflowId, stageName) {
    this.workflowId = workflowId;
    this.stageName = stageName;
    this.#stop = client.on(`workflow:${workflowId}/${encoded(stageName)}`, () => this.#reader.want());
    this.#reader.want();
  }

  close() {
    this.#stop();
    this.#reader.close();
  }

  /** @param {number} filter Its place in `FILTERS`. */
  select(filter) {
    this.filter.value = filter;
    this.#show([null]);
  }

  earlier() {
    this.#show(this.starts.peek().slice(0, -1));
  }

  later() {
    this.#show([...this.starts.peek(), this.next.peek()]);
  }

  /** @param {(number | null)[]} starts */
  #show(starts) {
    this.starts.value = starts;
    this.rows.value = null;
    this.#reader.want();
  }

  async #read() {
    const starts = this.starts.peek();
    const filter = this.filter.peek();
    const [, statuses] = FILTERS[filter];
    let after = starts.at(-1) ?? null;
    try {
      for (let pages = 1; ; pages++) {
        const page = await client.listStages(this.workflowId, {
          item_of: this.stageName,
          status: statuses.length ? statuses : null,
          after,
          limit: PAGE_ROWS,
        });
        // The reader has asked for another page meanwhile.
        if (starts !== this.starts.peek() || filter !== this.filter.peek()) return;
        after = page.next_after;
        this.error.value = null;
        if (page.stages.length > 0 || after === null || pages === MAX_PAGES_READ) {
          this.rows.value = /** @type {any} */ (page.stages);
          this.next.value = after;
          return;
        }
      }
    } catch (error) {
      this.error.value = /** @type {Error} */ (error);
      throw error;
    }
  }
}

/** Return the name of a stage as a part of a channel, as the server encodes it. @param {string} name */
const encoded = (name) =>
  encodeURIComponent(name).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);

export class StageItems {
  /** The lists that are unfolded, by stage, in the order in which they were opened. @type {Map<string, ItemList>} */
  #lists = new Map();
  #version = signal(0);

  /** @param {string} workflowId */
  constructor(workflowId) {
    this.workflowId = workflowId;
  }

  close() {
    for (const list of this.#lists.values()) list.close();
    this.#lists.clear();
  }

  /** How far the items of a stage are, and the list of them. @param {Stage} stage */
  view({ stage_name: name, items }) {
    if (!items) return "";
    this.#version.value;
    const list = this.#lists.get(name);
    const toggle = (/** @type {Event} */ event) => {
      const { open } = /** @type {HTMLDetailsElement} */ (event.currentTarget);
      if (open === this.#lists.has(name)) return;
      if (open) this.#open(name);
      else this.#fold(name);
      this.#version.value++;
    };
    return html`<div class="below">
      ${progressOf(name, items)}
      <details class="items" ?open=${list !== undefined} @toggle=${toggle}>
        <summary>Items</summary>
        ${list ? itemList(list) : ""}
      </details>
    </div>`;
  }

  /** @param {string} name */
  #open(name) {
    for (const other of this.#lists.keys()) {
      if (this.#lists.size < MAX_OPEN) break;
      this.#fold(other);
    }
    this.#lists.set(name, new ItemList(this.workflowId, name));
  }

  /** @param {string} name */
  #fold(name) {
    this.#lists.get(name)?.close();
    this.#lists.delete(name);
  }
}

/** @param {string} name @param {import("mahavishnu-client").ItemCounts} items */
function progressOf(name, { total, completed, failed, running }) {
  const share = (/** @type {number} */ count) => `${total ? (100 * count) / total : 0}%`;
  return html`<p class="items-progress">
    <svg class="items-bar" role="img" aria-label="Items of ${shown(name)}">
      <rect class="success" width=${share(completed)} height="100%"></rect>
      <rect class="failure" x=${share(completed)} width=${share(failed)} height="100%"></rect>
      <rect class="running" x=${share(completed + failed)} width=${share(running)} height="100%"></rect>
    </svg>
    <span>${number(completed)} of ${number(total)} completed</span>
    ${when(running > 0, html`<span class="running">${number(running)} running</span>`)}
    ${when(failed > 0, html`<span class="failure">${number(failed)} failed</span>`)}
  </p>`;
}

/** @param {ItemList} list */
function itemList(list) {
  const rows = list.rows.value;
  const error = list.error.value;
  const starts = list.starts.value;
  return html`<div class="chips" role="group" aria-label="Status of the items">
      ${FILTERS.map(
        ([word], index) =>
          html`<button
            type="button"
            class="chip"
            aria-pressed=${list.filter.value === index}
            @click=${() => list.select(index)}
          >
            ${word}
          </button>`,
      )}
    </div>
    ${when(error, html`<p class="error">The items cannot be shown: ${shown(error?.message)}</p>`)}
    ${rows ? itemTable(list, rows) : error ? "" : loading("the items")}
    ${when(
      starts.length > 1 || list.next.value !== null,
      html`<p class="buttons">
        <button type="button" ?disabled=${starts.length === 1} @click=${() => list.earlier()}>Earlier items</button>
        <button type="button" ?disabled=${list.next.value === null} @click=${() => list.later()}>Later items</button>
      </p>`,
    )}`;
}

/** @param {ItemList} list @param {readonly Stage[]} rows */
function itemTable(list, rows) {
  if (rows.length === 0) {
    const isAll = list.filter.value === 0 && list.starts.value.length === 1;
    return html`<p class="muted">${isAll ? "No item has been made yet." : "No item here has this status."}</p>`;
  }
  return scrollRegion(
    `Items of ${shown(list.stageName)}`,
    html`<table class="rows">
      <thead>
        <tr>
          <th scope="col">Item</th>
          <th scope="col">Attempt</th>
          <th scope="col">Worker</th>
          <th scope="col" class="wide">Error, or progress</th>
          <th scope="col" class="number">Took</th>
        </tr>
      </thead>
      <tbody>
        ${repeat(rows, (row) => row.stage_name, itemRow)}
      </tbody>
    </table>`,
  );
}

/** @param {Stage} item */
function itemRow(item) {
  return html`<tr>
    <td class="title">${statusBadge("stage", item.status, item.stage_name)}</td>
    <td class="meta">${item.attempt ? `${item.attempt} of ${item.last_attempt}` : ""}</td>
    <td class="meta">${shown(item.worker_id)}</td>
    <td class="wide ${item.error && item.status !== "cancelled" ? "error" : ""}">${detailOf(item)}</td>
    <td class="meta number">${tookOf(item)}</td>
  </tr>`;
}

/** @param {Stage} item */
function detailOf(item) {
  if (item.error) return cut(firstLine(item.error), MAX_ERROR_CHARACTERS);
  if (item.status === "waiting") return waitsFor(item);
  if (item.status !== "running") return "";
  return `${item.progress === null ? "" : `${Math.round(item.progress * 100)} % `}${shown(item.message)}`;
}

/** @param {Stage} item */
function tookOf({ status, started_at, duration_ms }) {
  if ((status === "running" || status === "waiting") && started_at)
    return runningFor(serverNow.value - Date.parse(started_at));
  return duration_ms === null ? "" : duration(duration_ms);
}
