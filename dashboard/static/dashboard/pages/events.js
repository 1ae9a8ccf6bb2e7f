// The events of a channel as they come: newest first, in words, each with its JSON.

import { client } from "../connection.js";
import { channelChooser, countsChooser, filtersOf, nameChooser } from "../event_filters.js";
import { Feed } from "../event_feed.js";
import { MAX_WAITING } from "../event_stream.js";
import { lookOfEvent, subjectOf, summaryOf } from "../event_words.js";
import { bothZones, counted, number, shown, timeOfDayMs } from "../format.js";
import { html, repeat } from "../lib.js";
import { command, copyButton, emptyState, loading, refused, runLink, staleness, timeAt, when } from "../parts.js";
import { route, urlOfPool } from "../routes.js";

/** @typedef {import("../event_stream.js").EventStream} EventStream */
/** @typedef {import("../event_stream.js").Item} Item */

/** @type {Record<string, string>} */
const GAPS = {
  epoch: "The event log was replaced, by that of a backup or a new one: events before it are not in it.",
  ahead: "The event log was replaced by an older one: events are missing here.",
  trimmed: "Events are missing here: the server has deleted them, because they were too old.",
  limit: "Events are missing here: there were too many to send again. The history has them.",
};

/** @returns {import("../main.js").Page} */
export function open() {
  const feed = new Feed();
  return { title: () => "Events", view: () => view(feed), close: () => feed.close() };
}

/** @param {Feed} feed */
function view(feed) {
  const filters = filtersOf(route.value.query);
  const stream = feed.stream.value;
  return html`
    <div class="page-head">
      <h1>Events</h1>
      <p class="facts addresses">
        ${when(filters.channel, html`<span>channel <code>${filters.channel}</code> ${copyButton(filters.channel, "the channel")}</span>`)}
        <span><code>${client.url}</code> ${copyButton(client.url, "the address of the WebSocket")}</span>
      </p>
    </div>
    <div class="filters">
      ${channelChooser(filters)} ${nameChooser(filters.names)}
      ${stream ? countsChooser(filters, stream.folded.count.value) : ""}
      ${when(
        stream,
        html`<button
          type="button"
          class="pause"
          data-key="pause"
          title="Key: ."
          aria-pressed=${stream?.isPaused.value ?? false}
          @click=${() => stream?.togglePause()}
        >
          ${stream?.isPaused.value ? "▶ Continue" : "Pause"}
        </button>`,
      )}
    </div>
    ${when(filters.problem, html`<p class="banner failure" role="alert">${filters.problem}</p>`)}
    ${stream ? list(feed, stream, filters) : when(!filters.problem, emptyState("Choose a channel", html`<p>A channel has the events of one workflow, pool or worker.</p>`))}
  `;
}

/** @param {Feed} feed @param {EventStream} stream @param {import("../event_filters.js").Filters} filters */
function list(feed, stream, filters) {
  const rows = stream.shown.value;
  if (stream.error.value && (!rows || /** @type {any} */ (stream.error.value).code === "FORBIDDEN")) {
    return refused(stream.error.value, `the events of ${shown(stream.channel)}`);
  }
  if (!rows) return loading("the events");
  return html`
    <div class="event-notices">${notice(stream)}</div>
    ${
      rows.length === 0
        ? nothingYet(filters, stream.folded.count.value)
        : html`<table class="rows event-list ${staleness()}" aria-label="Events, newest first">
            <thead>
              <tr>
                <th scope="col">Time</th>
                <th scope="col">Event</th>
                <th scope="col">About</th>
                <th scope="col" class="wide">What</th>
                <th scope="col" class="number">Seq</th>
                <th scope="col"><span class="spoken">JSON</span></th>
              </tr>
            </thead>
            <tbody>
              ${repeat(
                rows,
                (item) => item.key,
                (item) => (item.gap ? gapRow(item) : row(feed, stream, item)),
              )}
            </tbody>
          </table>`
    }
    ${when(stream.hasOlder.value, html`<p class="more"><button type="button" ?disabled=${stream.isReading.value} @click=${() => stream.readOlder()}>Show older events</button></p>`)}
    ${when(!stream.hasOlder.value && rows.length > 0, html`<p class="more muted">The event log has no older ones${filters.names.length ? " of these names" : ""}.</p>`)}
    ${when(stream.error.value, html`<p class="more muted" role="alert">Older events could not be read: ${shown(stream.error.value?.message)}</p>`)}
  `;
}

/** What waits above the rows. @param {EventStream} stream */
function notice(stream) {
  const waiting = stream.waiting.value;
  const dropped = stream.dropped.value;
  if (stream.isPaused.value) {
    return html`<p class="notice">
      <strong>Paused</strong> <span>${number(waiting)} new</span>
      ${when(dropped, html`<span>${number(MAX_WAITING)} are kept here, ${number(dropped)} older ones are not: <button type="button" class="link" @click=${() => stream.readDropped()}>read them from the history</button></span>`)}
      <button type="button" class="new" @click=${() => stream.togglePause()}>Continue</button>
    </p>`;
  }
  if (waiting === 0) return "";
  if (stream.isFlooded.value)
    return html`<button type="button" class="new" @click=${() => stream.pauseToRead()}>
      ▲ ${number(waiting)} more · pause to read
    </button>`;
  return html`<button type="button" class="new" @click=${() => showNewest(stream)}>▲ ${number(waiting)} new</button>`;
}

/** @param {EventStream} stream */
function showNewest(stream) {
  stream.showNewest();
  scrollTo({ top: 0 });
}

/** @param {import("../event_filters.js").Filters} filters @param {number} folded */
function nothingYet({ channel, kind, id, names }, folded) {
  const about = id ? `the ${kind} ${id}` : "this server";
  if (folded)
    return emptyState(
      "Only pool counts yet",
      html`<p>The latest events of ${about} are ${counted(folded, "count", "counts")} of pools, which are hidden.</p>`,
    );
  if (names.length)
    return emptyState(
      "No such event yet",
      html`<p>
        The event log has no event of ${counted(names.length, "chosen name")} of ${about}. New ones appear here.
      </p>`,
    );
  return emptyState(
    "No events yet",
    html`<p>The event log has none of ${about}. They appear here the moment something happens, such as a test:</p>
      <p>${commandFor(channel)}</p>`,
  );
}

/** @param {string} channel */
function commandFor(channel) {
  const id = channel.startsWith("workflow:") ? channel.slice("workflow:".length) : "test";
  const text = `python manage.py emit_test_event workflow.started --id ${id}`;
  return command(text);
}

/** @param {Item} item */
const gapRow = (item) =>
  html`<tr class="gap">
    <td colspan="6">
      <span class="waiting"><span aria-hidden="true">▲</span> ${GAPS[item.gap] ?? "Events are missing here."}</span>
    </td>
  </tr>`;

/** @param {Feed} feed @param {EventStream} stream @param {Item} item */
function row(feed, stream, item) {
  const { sign, word, colour } = lookOfEvent(item);
  const isOpen = feed.opened.value.has(item.key);
  return html`<tr class=${isOpen ? "is-open" : ""}>
      <td class="time">${timeAt(item.timestamp, timeOfDayMs)}</td>
      <td class="state" title=${item.name}>
        <span class="status ${colour}"><span class="sign" aria-hidden="true">${sign}</span> ${shown(word)}</span
        >${when(item.data.test === true, html` <span class="test">test</span>`)}
      </td>
      <td class="title">${about(feed, item)}</td>
      <td class="wide what">
        ${summaryOf(item)}${when(item.data.reported_by, html` <span class="muted">reported by ${shown(item.data.reported_by)}</span>`)}
      </td>
      <td class="number seq muted">${item.seq}</td>
      <td class="raw">
        <button
          type="button"
          class="icon id"
          aria-expanded=${isOpen}
          aria-label="JSON of event ${item.seq}"
          title="JSON"
          @click=${() => feed.toggle(item.key)}
        >
          {}
        </button>
      </td>
    </tr>
    ${when(
      isOpen,
      html`<tr class="details">
        <td colspan="6">${details(stream, item)}</td>
      </tr>`,
    )}`;
}

/** What an event is about, as a link. @param {Feed} feed @param {Item} item */
function about(feed, item) {
  const { kind, id } = subjectOf(item);
  if (!id) return html`<span class="muted">–</span>`;
  if (kind === "workflow") return runLink({ workflow_id: id, name: feed.nameOf(item) });
  const poolId = item.data.pool_id;
  const text = html`<span class="name">${shown(id)}</span>`;
  return poolId
    ? html`<a
        class="run-link"
        data-row
        href=${urlOfPool(poolId)}
        title=${shown(kind === "pool" ? `pool ${id}` : `worker ${id} of pool ${poolId}`)}
        >${text}</a
      >`
    : text;
}

/** @param {EventStream} stream @param {Item} item */
function details(stream, { seq, name, data, timestamp, id }) {
  const text = JSON.stringify({ event: name, seq, room: stream.channel, timestamp, id, data }, null, 2);
  return html`<p class="muted"><code>${shown(name)}</code> · seq ${seq} · ${bothZones(timestamp)}</p>
    <div class="json">
      ${copyButton(text, "the JSON")}
      <pre tabindex="0">${text.split("\n").map(shown).join("\n")}</pre>
    </div>`;
}
