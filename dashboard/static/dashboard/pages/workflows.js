// The list of workflows: filtered by the address, newest first. Its rows change as events come.

import { cancelRuns, pendingWord, retryRuns } from "../actions.js";
import { client, onEvents, serverNow } from "../connection.js";
import { counted, cut, duration, firstLine, nameOf, number, runningFor, shown } from "../format.js";
import { html, repeat, signal } from "../lib.js";
import {
  command,
  emptyState,
  heldBadge,
  loading,
  poolLink,
  refused,
  runLink,
  scrollRegion,
  stageProgress,
  staleness,
  statusBadge,
  timeAgo,
  when,
} from "../parts.js";
import { mayOperate } from "../permissions.js";
import { changeQuery, route, urlOf } from "../routes.js";
import { foldRows } from "../run_rows.js";
import { STATUSES } from "../statuses.js";

const PAGE_ROWS = 100;
/** The most rows on the page, however often older ones are asked for. */
const MAX_ROWS = 400;
const MAX_ERROR_CHARACTERS = 160;
const SEARCH_PAUSE_MS = 250;
const FAILED = ["failed", "timeout"];

/** @type {[string, string, number][]} */
const PERIODS = [
  ["1h", "Last hour", 3600],
  ["24h", "Last 24 hours", 86_400],
  ["7d", "Last 7 days", 604_800],
];

/** @returns {import("../main.js").Page} */
export function open() {
  const list = new RunList();
  const search = debounced((text) => changeQuery({ q: text }), SEARCH_PAUSE_MS);
  return { title: () => "Workflows", view: () => view(list, search), close: () => list.close() };
}

/** The rows of the filters in the address. */
class RunList {
  rows = signal(/** @type {import("../run_rows.js").Row[] | null} */ (null));
  error = signal(/** @type {Error | null} */ (null));
  counts = signal(/** @type {Record<string, number> | null} */ (null));
  newRuns = signal(0);
  isReading = signal(false);
  selected = signal(/** @type {Set<string>} */ (new Set()));
  /** Where the next page begins. @type {import("../lib.js").Signal<string | null>} */
  cursor = signal(null);
  #shownFilters = "";
  #stop = onEvents((item) => this.#onItem(item));

  /** Read the first page, if the filters have changed. */
  follow() {
    const filters = route.value.query.toString();
    if (filters === this.#shownFilters && (this.rows.peek() || this.isReading.peek())) return;
    this.#shownFilters = filters;
    queueMicrotask(() => void this.read());
  }

  /** @param {string | null} [cursor] Of the page to add; without one the list begins anew. */
  async read(cursor = null) {
    const filters = this.#shownFilters;
    this.isReading.value = true;
    try {
      const page = await client.listWorkflows({
        ...requestOf(new URLSearchParams(filters)),
        cursor,
        limit: PAGE_ROWS,
        counts: cursor === null,
      });
      if (filters !== this.#shownFilters) return;
      const rows = /** @type {any[]} */ (page.workflows);
      const earlier = cursor === null ? [] : (this.rows.peek() ?? []);
      const known = new Set(earlier.map((row) => row.workflow_id));
      this.rows.value = [...earlier, ...rows.filter((row) => !known.has(row.workflow_id))];
      this.cursor.value = page.next_cursor;
      this.error.value = null;
      if (cursor === null) {
        this.counts.value = page.counts ?? null;
        this.newRuns.value = 0;
        this.selected.value = new Set();
      }
    } catch (error) {
      if (filters === this.#shownFilters) this.error.value = /** @type {Error} */ (error);
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
  }

  /** @param {any} item */
  #onItem(item) {
    const rows = this.rows.peek();
    if (!rows) return;
    if (item.name === undefined) void this.read();
    else if (item.name === "workflow.created" && item.data.test !== true && matches(item.data)) this.newRuns.value++;
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
  const period = PERIODS.find(([name]) => name === query.get("since"));
  return {
    status: status.length ? status : null,
    name: query.get("name") || null,
    pool_id: query.get("pool") || null,
    q: query.get("q")?.trim() || null,
    from: period ? new Date(serverNow.peek() - period[2] * 1000).toISOString() : null,
  };
}

/** Return whether a new run belongs to the list, as far as its event shows. @param {any} created */
function matches(created) {
  const { query } = route.peek();
  const status = query.get("status");
  if (query.get("q") || (status && !status.split(",").includes("pending") && !status.split(",").includes("running")))
    return false;
  return [
    ["name", created.name],
    ["pool", created.pool_id],
  ].every(([key, value]) => !query.get(key) || query.get(key) === value);
}

/** @param {RunList} list @param {(text: string) => void} search */
function view(list, search) {
  list.follow();
  const { query } = route.value;
  const rows = list.rows.value;
  return html`
    <div class="page-head">
      <h1>Workflows</h1>
      ${mayOperate("definition", "*") ? html`<a class="button primary" href=${urlOf("start")}>Start a workflow</a>` : ""}
    </div>
    ${filters(query, list, search)}
    ${list.error.value ? refused(list.error.value, "the workflows") : rows ? table(list, rows, query) : loading("the workflows")}
  `;
}

/** @param {URLSearchParams} query @param {RunList} list @param {(text: string) => void} search */
function filters(query, list, search) {
  const status = query.get("status") ?? "";
  const counts = list.counts.value ?? {};
  const chips = [
    ["", "All"],
    ["running", "Running"],
    ["pending", "Pending"],
    ["failed,timeout", "Failed"],
    ["completed", "Completed"],
    ["cancelled", "Cancelled"],
  ];
  const count = (/** @type {string} */ value) =>
    value.split(",").reduce((total, each) => total + (counts[each] ?? 0), 0);
  return html`
    <form class="filters" role="search" @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <div class="chips" role="group" aria-label="Status">
        ${chips.map(
          ([
            value,
            word,
          ]) => html`<button type="button" class="chip" aria-pressed=${value === status} @click=${() => changeQuery({ status: value })}
            >${word}${value && count(value) ? html` <span class="count">${number(count(value))}</span>` : ""}</button>`,
        )}
      </div>
      <label><span class="spoken">Created</span>
        <select @change=${(/** @type {any} */ event) => changeQuery({ since: event.target.value })}>
          <option value="" ?selected=${!query.get("since")}>Any time</option>
          ${PERIODS.map(([value, word]) => html`<option value=${value} ?selected=${query.get("since") === value}>${word}</option>`)}
        </select></label>
      ${["name", "pool"].map((key) =>
        when(
          query.get(key),
          html`<button type="button" class="chip" aria-pressed="true"
          aria-label="Remove the filter ${key}" @click=${() => changeQuery({ [key]: "" })}>${key}: ${shown(query.get(key))} ×</button>`,
        ),
      )}
      <input type="search" aria-label="Search workflows" placeholder="Search id, name, prompt, error  ( / )" maxlength="200"
        .value=${query.get("q") ?? ""} @input=${(/** @type {any} */ event) => search(event.target.value)}>
    </form>
  `;
}

/** @param {RunList} list @param {import("../run_rows.js").Row[]} rows @param {URLSearchParams} query */
function table(list, rows, query) {
  if (rows.length === 0 && list.cursor.value === null) return nothingFound(query, list);
  const selected = rows.filter((row) => list.selected.value.has(row.workflow_id));
  const mayAny = rows.some((row) => mayOperate("workflow", row.workflow_id));
  return html`
    <div class="notices">
      ${newRunsButton(list)}
      ${selected.length ? selectionBar(list, selected) : ""}
    </div>
    ${scrollRegion(
      "Workflows",
      html`<table class="rows runs ${staleness()}">
      <thead><tr>
        ${mayAny ? html`<th scope="col" class="check"><span class="spoken">Select</span></th>` : ""}
        <th scope="col">Status</th><th scope="col">Workflow</th><th scope="col">Stages</th>
        <th scope="col" class="wide">Stage now, or error</th><th scope="col">Pool</th><th scope="col">Created</th><th scope="col" class="number">Took</th>
      </tr></thead>
      <tbody>${repeat(
        rows,
        (row) => row.workflow_id,
        (row) => rowView(list, row, mayAny),
      )}</tbody>
    </table>`,
    )}
    ${
      list.cursor.value && rows.length < MAX_ROWS
        ? html`<p class="more"><button type="button" ?disabled=${list.isReading.value} @click=${() => list.read(list.cursor.peek())}>Show older workflows</button></p>`
        : when(
            list.cursor.value,
            html`<p class="muted more">${number(rows.length)} workflows are shown. Use the filters to see others.</p>`,
          )
    }
  `;
}

/** @param {RunList} list */
function newRunsButton(list) {
  const count = list.newRuns.value;
  return when(
    count > 0,
    html`<button type="button" class="new" @click=${() => list.read()}>▲ ${number(count)} new</button>`,
  );
}

/** @param {RunList} list @param {import("../run_rows.js").Row[]} selected */
function selectionBar(list, selected) {
  const running = selected.filter((row) => row.finished_at === null);
  const retryable = selected.filter((row) => [...FAILED, "cancelled"].includes(row.status));
  return html`<span class="selection">${counted(selected.length, "workflow")} selected
    ${when(running.length > 0, html`<button type="button" class="danger" @click=${() => cancelRuns(running)}>Cancel ${running.length}</button>`)}
    ${when(retryable.length > 0, html`<button type="button" @click=${() => retryRuns(retryable)}>Retry ${retryable.length}</button>`)}
    <button type="button" class="link" @click=${() => (list.selected.value = new Set())}>Clear</button></span>`;
}

/** @param {RunList} list @param {import("../run_rows.js").Row} row @param {boolean} mayAny */
function rowView(list, row, mayAny) {
  const { workflow_id: id } = row;
  const isFailed = FAILED.includes(row.status);
  const check = mayOperate("workflow", id)
    ? html`<input type="checkbox" aria-label="Select ${nameOf(row)}" .checked=${list.selected.value.has(id)}
        @change=${(/** @type {any} */ event) => list.select(id, event.target.checked)}>`
    : "";
  const now = pendingWord(`workflow:${id}`);
  return html`<tr>
    ${mayAny ? html`<td class="check">${check}</td>` : ""}
    <td class="state">${statusBadge("workflow", row.status, now || undefined)} ${when(row.held, heldBadge())}</td>
    <td class="title">${runLink(row)}</td>
    <td>${stageProgress(row)}</td>
    <td class="wide detail ${isFailed ? "error" : ""}" title=${shown(row.error)}>${row.error ? cut(firstLine(row.error), MAX_ERROR_CHARACTERS) : shown(row.stage)}</td>
    <td>${poolLink(row.pool_id)}</td>
    <td>${timeAgo(row.created_at)}</td>
    <td class="number">${tookText(row)}</td>
  </tr>`;
}

/** Return how long a run took, or takes. @param {{started_at: string | null, finished_at: string | null}} run */
export function tookText({ started_at, finished_at }) {
  if (!started_at) return "–";
  if (finished_at) return duration(Date.parse(finished_at) - Date.parse(started_at));
  return runningFor(serverNow.value - Date.parse(started_at));
}

/** @param {URLSearchParams} query @param {RunList} list */
function nothingFound(query, list) {
  if ([...query.keys()].some((key) => query.get(key))) {
    const clear = html`<button type="button" @click=${() => changeQuery({ status: "", name: "", pool: "", q: "", since: "" })}>Show all workflows</button>`;
    return html`<div class="notices">${newRunsButton(list)}</div>${emptyState("No workflow matches", html`<p>No stored workflow has what the filters ask for.</p>${clear}`)}`;
  }
  return html`<div class="notices">${newRunsButton(list)}</div>${emptyState(
    "Nothing has run yet",
    html`<p>Workflows appear here the moment they start. Run one:</p><p>${command("python manage.py run_workflow demo_retry --watch")}</p>`,
  )}`;
}

/** @template T @param {(value: T) => void} run @param {number} pauseMs @returns {(value: T) => void} */
function debounced(run, pauseMs) {
  let timer = 0;
  return (value) => {
    clearTimeout(timer);
    timer = window.setTimeout(() => run(value), pauseMs);
  };
}
