// The list of workflows: filtered by the address, newest first. Its rows change as events come.

import { cancelRuns, pendingWord, retryRuns } from "../actions.js";
import { serverNow } from "../connection.js";
import { counted, cut, duration, firstLine, nameOf, number, runningFor, shown } from "../format.js";
import { html, repeat } from "../lib.js";
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
import { PERIODS, RunList } from "../run_list.js";

/** The most rows on the page, however often older ones are asked for. */
const MAX_ROWS = 400;
const MAX_ERROR_CHARACTERS = 160;
const SEARCH_PAUSE_MS = 250;
const FAILED = ["failed", "timeout"];

/** @returns {import("../main.js").Page} */
export function open() {
  const list = new RunList();
  // The address of the next page comes before its module.
  const search = debounced((text) => {
    if (route.peek().page === "workflows") changeQuery({ q: text });
  }, SEARCH_PAUSE_MS);
  return {
    title: () => "Workflows",
    view: () => view(list, search.call),
    close() {
      search.cancel();
      list.close();
    },
  };
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
          ([value, word]) =>
            html`<button
              type="button"
              class="chip"
              aria-pressed=${value === status}
              @click=${() => changeQuery({ status: value })}
            >
              ${word}${value && count(value) ? html` <span class="count">${number(count(value))}</span>` : ""}
            </button>`,
        )}
      </div>
      <select aria-label="Created" @change=${(/** @type {any} */ event) => changeQuery({ since: event.target.value })}>
        <option value="" ?selected=${!query.get("since")}>Any time</option>
        ${PERIODS.map(([value, word]) => html`<option value=${value} ?selected=${query.get("since") === value}>${word}</option>`)}
      </select>
      ${["status", "name", "pool", "parent", "root", "ended"].map((key) =>
        when(
          key === "status" ? !chips.some(([value]) => value === status) : query.get(key),
          html`<button
            type="button"
            class="chip"
            aria-pressed="true"
            aria-label="Remove the filter ${key}"
            @click=${() => changeQuery({ [key]: "" })}
          >
            ${key}: ${shown(query.get(key))} ×
          </button>`,
        ),
      )}
      <input
        type="search"
        aria-label="Search workflows"
        placeholder="Search id, name, prompt, error  ( / )"
        maxlength="200"
        .value=${query.get("q") ?? ""}
        @input=${(/** @type {any} */ event) => search(event.target.value)}
      />
    </form>
  `;
}

/** @param {RunList} list @param {import("../run_rows.js").Row[]} rows @param {URLSearchParams} query */
function table(list, rows, query) {
  if (rows.length === 0 && list.cursor.value === null) return nothingFound(query, list);
  const selected = rows.filter((row) => list.selected.value.has(row.workflow_id));
  const mayAny = rows.some((row) => mayOperate("workflow", row.workflow_id));
  return html`
    <div class="notices">${newRunsButton(list)} ${selected.length ? selectionBar(list, selected) : ""}</div>
    ${scrollRegion(
      "Workflows",
      html`<table class="rows runs ${staleness()}">
        <thead>
          <tr>
            ${mayAny ? html`<th scope="col" class="check"><span class="spoken">Select</span></th>` : ""}
            <th scope="col">Status</th>
            <th scope="col">Workflow</th>
            <th scope="col">Stages</th>
            <th scope="col" class="wide">Stage now, or error</th>
            <th scope="col">Pool</th>
            <th scope="col">Created</th>
            <th scope="col" class="number">Took</th>
          </tr>
        </thead>
        <tbody>
          ${repeat(
            rows,
            (row) => row.workflow_id,
            (row) => rowView(list, row, mayAny),
          )}
        </tbody>
      </table>`,
    )}
    ${
      list.cursor.value && rows.length < MAX_ROWS
        ? html`<p class="more">
            <button type="button" ?disabled=${list.isReading.value} @click=${() => list.readOlder()}>
              Show older workflows
            </button>
          </p>`
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
  const own = selected.filter((row) => !row.reported_by);
  const running = own.filter((row) => row.finished_at === null);
  const retryable = own.filter((row) => [...FAILED, "cancelled"].includes(row.status));
  return html`<span class="selection"
    >${counted(selected.length, "workflow")} selected
    ${when(running.length > 0, html`<button type="button" class="danger" @click=${() => cancelRuns(running)}>Cancel ${running.length}</button>`)}
    ${when(retryable.length > 0, html`<button type="button" @click=${() => retryRuns(retryable)}>Retry ${retryable.length}</button>`)}
    <button type="button" class="link" @click=${() => (list.selected.value = new Set())}>Clear</button></span
  >`;
}

/** @param {RunList} list @param {import("../run_rows.js").Row} row @param {boolean} mayAny */
function rowView(list, row, mayAny) {
  const { workflow_id: id } = row;
  const isFailed = FAILED.includes(row.status);
  const check = mayOperate("workflow", id)
    ? html`<input
        type="checkbox"
        aria-label="Select ${nameOf(row)}"
        .checked=${list.selected.value.has(id)}
        @change=${(/** @type {any} */ event) => list.select(id, event.target.checked)}
      />`
    : "";
  const now = pendingWord(`workflow:${id}`);
  return html`<tr class=${list.flashes.classOf(id, row.status)}>
    ${mayAny ? html`<td class="check">${check}</td>` : ""}
    <td class="state">${statusBadge("workflow", row.status, now || undefined)} ${when(row.held, heldBadge())}</td>
    <td class="title">${runLink(row)}</td>
    <td class="meta">${stageProgress(row)}</td>
    <td class="wide detail ${isFailed ? "error" : ""}" title=${shown(row.error)}>
      ${row.error ? cut(firstLine(row.error), MAX_ERROR_CHARACTERS) : shown(row.stage)}
    </td>
    <td class="meta">${poolLink(row.pool_id)}</td>
    <td class="meta">${timeAgo(row.created_at)}</td>
    <td class="meta number">${tookText(row)}</td>
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
    const clear = html`<button
      type="button"
      @click=${() => changeQuery({ status: "", name: "", pool: "", parent: "", root: "", q: "", since: "", ended: "" })}
    >
      Show all workflows
    </button>`;
    return html`<div class="notices">${newRunsButton(list)}</div>
      ${emptyState(
        "No workflow matches",
        html`<p>No stored workflow has what the filters ask for.</p>
          ${clear}`,
      )}`;
  }
  return html`<div class="notices">${newRunsButton(list)}</div>
    ${emptyState(
      "Nothing has run yet",
      html`<p>Workflows appear here the moment they start. Run one:</p>
        <p>${command("python manage.py run_workflow demo_retry --watch")}</p>`,
    )}`;
}

/** @template T @param {(value: T) => void} run @param {number} pauseMs */
function debounced(run, pauseMs) {
  let timer = 0;
  const cancel = () => clearTimeout(timer);
  const call = (/** @type {T} */ value) => {
    cancel();
    timer = window.setTimeout(() => run(value), pauseMs);
  };
  return { call, cancel };
}
