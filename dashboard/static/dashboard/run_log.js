// The log and the events of a run: the latest from the event log of the server, then each as it comes.

import { HistoryLost } from "../realtime/clients/1.0.0/mahavishnu.js";
import { client } from "./connection.js";
import { bothZones, counted, number, shown, timeOfDayMs } from "./format.js";
import { computed, html, repeat, signal } from "./lib.js";
import { ATTEMPT_EVENTS, attemptsOf } from "./run_attempts.js";
import { loading, when } from "./parts.js";
import { Refresher } from "./refresher.js";
import { NOTE_EVENTS, notesOf } from "./run_notes.js";
import { toast } from "./toasts.js";

const LOG = "workflow.stage_log";
/** What the timeline needs besides the state of the run. */
const TIMELINE_EVENTS = [...new Set([...ATTEMPT_EVENTS, ...NOTE_EVENTS])];
const READ_EVENTS = 500;
const MAX_LINES = 10_000;
const MAX_EVENTS = 2_000;
/** The most lines that are drawn at once: the last of those that match. */
const MAX_DRAWN_LINES = 1_000;
/** Reading again after a gap, at most this often. */
const READ_EVERY_MS = 1_000;

const ANSI = /\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g;

/** @typedef {{seq: number, name: string, data: any, timestamp: string}} RunEvent */
/** @typedef {{seq: number, stage: string, text: string, at: string, part: number}} Line `part`: its number among the lines of its event. */

/** The events of one run, in order. Each is there once, whether it was read or came live. */
export class RunLog {
  events = signal(/** @type {RunEvent[]} */ ([]));
  lines = signal(/** @type {Line[]} */ ([]));
  attempts = computed(() => attemptsOf(this.#timelineEvents.value));
  notes = computed(() => notesOf(this.#timelineEvents.value));
  hasEarlierEvents = signal(false);
  hasEarlierLines = signal(false);
  isLost = signal(false);
  /** Whether the latest events were read. */
  isRead = signal(false);
  stage = signal("");
  search = signal("");
  isFollowed = signal(true);
  isWrapped = signal(true);
  #timelineEvents = signal(/** @type {RunEvent[]} */ ([]));
  #channel;
  #stop;
  #waiting = /** @type {RunEvent[]} */ ([]);
  #reader = new Refresher(() => this.#readLatest(), READ_EVERY_MS);

  /** @param {string} workflowId */
  constructor(workflowId) {
    this.#channel = `workflow:${workflowId}`;
    this.#stop = client.on(this.#channel, (item) => this.#onItem(item));
    this.#reader.want();
  }

  close() {
    this.#stop();
    this.#reader.close();
  }

  countText() {
    const { length } = this.lines.value;
    return length ? number(length) + (this.hasEarlierLines.value ? "+" : "") : "";
  }

  eventCountText() {
    const { length } = this.events.value;
    return length ? number(length) + (this.hasEarlierEvents.value ? "+" : "") : "";
  }

  async readEarlierEvents() {
    const [first] = this.events.peek();
    const page = await this.#readEarlier({ before: first?.seq });
    // Another answer may have come first, or the list was read anew.
    if (!page || this.events.peek()[0] !== first) return;
    this.events.value = [...page.events, ...this.events.peek()];
    this.hasEarlierEvents.value = page.has_more;
  }

  async readEarlierLines() {
    const [first] = this.lines.peek();
    const page = await this.#readEarlier({ before: first?.seq, names: [LOG] });
    if (!page || this.lines.peek()[0] !== first) return;
    this.lines.value = [...page.events.flatMap(linesOf), ...this.lines.peek()];
    this.hasEarlierLines.value = page.has_more && this.lines.peek().length < MAX_LINES;
  }

  async #readLatest() {
    const [page, logPage, timelinePage] = await Promise.all([
      this.#read({}),
      this.#read({ names: [LOG] }),
      this.#read({ names: TIMELINE_EVENTS }),
    ]);
    this.events.value = page.events;
    this.lines.value = logPage.events.flatMap(linesOf);
    this.#timelineEvents.value = timelinePage.events;
    this.hasEarlierEvents.value = page.has_more;
    this.hasEarlierLines.value = logPage.has_more;
    this.isRead.value = true;
    this.#add(this.#waiting.splice(0));
  }

  /** @param {object} options */
  async #readEarlier(options) {
    try {
      return await this.#read(options);
    } catch (error) {
      toast(`Earlier events could not be read: ${shown(/** @type {Error} */ (error).message)}`);
      return null;
    }
  }

  /** @param {object} options @returns {Promise<{events: RunEvent[], has_more: boolean}>} */
  async #read(options) {
    const page = await client.listEvents(this.#channel, { ...options, limit: READ_EVENTS });
    const events = page.events.map((each) => ({
      seq: each.seq,
      name: each.event,
      data: each.data,
      timestamp: each.timestamp,
    }));
    return { events: events.sort((one, other) => one.seq - other.seq), has_more: page.has_more };
  }

  /** @param {any} item */
  #onItem(item) {
    if (item instanceof HistoryLost) {
      // The event log has what was too much to send again. Other gaps stay, and another log has other positions.
      if (item.reason !== "limit") this.isLost.value = true;
      this.isRead.value = false;
      this.#waiting = [];
      this.#reader.want();
    } else if (this.isRead.peek()) this.#add([item]);
    else this.#waiting = [...this.#waiting.slice(1 - MAX_EVENTS), item];
  }

  /** Add events to the lists that lack them: each list was read at another moment. @param {RunEvent[]} added */
  #add(added) {
    const events = newer(added, this.events.peek());
    if (events.length)
      this.events.value = this.#bounded([...this.events.peek(), ...events], MAX_EVENTS, this.hasEarlierEvents);
    const timelineEvents = newer(added, this.#timelineEvents.peek()).filter(({ name }) =>
      TIMELINE_EVENTS.includes(name),
    );
    if (timelineEvents.length)
      this.#timelineEvents.value = [...this.#timelineEvents.peek(), ...timelineEvents].slice(-MAX_EVENTS);
    const lines = newer(added, this.lines.peek())
      .filter(({ name }) => name === LOG)
      .flatMap(linesOf);
    if (lines.length)
      this.lines.value = this.#bounded([...this.lines.peek(), ...lines], MAX_LINES, this.hasEarlierLines);
  }

  /** @template T @param {T[]} list @param {number} max @param {import("./lib.js").Signal<boolean>} hasEarlier */
  #bounded(list, max, hasEarlier) {
    if (list.length <= max) return list;
    hasEarlier.value = true;
    return list.slice(-max);
  }
}

/** Those after the last one of a list. @param {RunEvent[]} events @param {{seq: number}[]} list */
const newer = (events, list) => events.filter(({ seq }) => seq > (list.at(-1)?.seq ?? 0));

/** The lines of a log event. @param {RunEvent} event @returns {Line[]} */
function linesOf({ seq, data, timestamp }) {
  const lines = String(data.message ?? "")
    .replace(ANSI, "")
    .replace(/\n$/, "")
    .split("\n");
  return lines.map((text, index) => ({
    seq,
    stage: data.stage_name,
    text,
    at: data.timestamp ?? timestamp,
    part: index,
  }));
}

/**
 * @param {RunLog} log
 * @param {import("mahavishnu-client").Run} run
 * @param {{tail?: number}} [options] `tail`: show only the last lines, without controls.
 */
export function logTab(log, run, { tail = 0 } = {}) {
  const all = log.lines.value;
  if (tail) return logLines(log, all.slice(-tail), "The last lines of the log");
  const wanted = log.search.value.toLowerCase();
  const stage = log.stage.value;
  const matching =
    stage || wanted
      ? all.filter((line) => (!stage || line.stage === stage) && (!wanted || line.text.toLowerCase().includes(wanted)))
      : all;
  const stages = [...new Set(all.map((line) => line.stage))];
  return html`<div class="log-tools">
      <input
        type="search"
        aria-label="Search the log"
        placeholder="Search the log  ( / )"
        .value=${log.search.value}
        @input=${(/** @type {any} */ event) => (log.search.value = event.target.value)}
      />
      <select aria-label="Stage" @change=${(/** @type {any} */ event) => (log.stage.value = event.target.value)}>
        <option value="">All stages</option>
        ${stages.map((each) => html`<option value=${each} ?selected=${each === stage}>${shown(each)}</option>`)}
      </select>
      <button
        type="button"
        aria-pressed=${log.isFollowed.value}
        data-key="pause"
        @click=${() => (log.isFollowed.value = !log.isFollowed.value)}
      >
        Follow
      </button>
      <button
        type="button"
        aria-pressed=${log.isWrapped.value}
        @click=${() => (log.isWrapped.value = !log.isWrapped.value)}
      >
        Wrap
      </button>
      <button type="button" @click=${() => copy(matching)}>Copy</button>
      <button type="button" @click=${() => download(matching, run.workflow_id)}>Download</button>
    </div>
    ${when(log.hasEarlierLines.value, html`<p class="more"><button type="button" @click=${() => log.readEarlierLines()}>Show earlier lines</button></p>`)}
    ${when(matching.length > MAX_DRAWN_LINES, html`<p class="muted">The last ${number(MAX_DRAWN_LINES)} of ${counted(matching.length, "line")}. Copy and Download have all of them.</p>`)}
    ${all.length === 0 ? (log.isRead.value ? html`<p class="muted">No stage has written to the log${run.finished_at ? "" : " yet"}.</p>` : loading("the log")) : logLines(log, matching.slice(-MAX_DRAWN_LINES), "The log")}`;
}

/** @param {RunLog} log @param {Line[]} lines @param {string} label */
function logLines(log, lines, label) {
  queueMicrotask(() => followTail(log));
  return html`<div
    class="log ${log.isWrapped.value ? "" : "unwrapped"}"
    tabindex="0"
    role="log"
    aria-live="off"
    aria-label=${label}
    @scroll=${(/** @type {any} */ event) => onScroll(log, event.target)}
  >
    ${repeat(
      lines,
      (line) => `${line.seq} ${line.part}`,
      (line) =>
        html`<div class="line">
          <time title=${bothZones(line.at)}>${line.part ? "" : timeOfDayMs(line.at)}</time
          ><span class="stage">${line.part ? "" : shown(line.stage)}</span><span class="text">${shown(line.text)}</span>
        </div>`,
    )}
  </div>`;
}

/** Show the last line, unless the reader has scrolled away from it. @param {RunLog} log */
function followTail(log) {
  const element = document.querySelector(".log");
  if (element && log.isFollowed.peek()) element.scrollTop = element.scrollHeight;
}

/** @param {RunLog} log @param {HTMLElement} element */
function onScroll(log, element) {
  const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  if (isAtEnd !== log.isFollowed.peek()) log.isFollowed.value = isAtEnd;
}

/** @param {Line[]} lines */
const textOf = (lines) => lines.map((line) => `${line.at} ${line.stage} ${line.text}`).join("\n");

/** @param {Line[]} lines */
async function copy(lines) {
  try {
    await navigator.clipboard.writeText(textOf(lines));
    toast(`Copied ${counted(lines.length, "line")}`);
  } catch {
    toast("The browser did not allow to copy the log");
  }
}

/** @param {Line[]} lines @param {string} workflowId */
function download(lines, workflowId) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([textOf(lines), "\n"], { type: "text/plain" }));
  link.download = `${workflowId}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
