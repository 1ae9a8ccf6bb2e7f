// The events of one run, newest first, each with its data.

import { cut, shown, timeOfDayMs } from "./format.js";
import { html, repeat } from "./lib.js";
import { copyButton, scrollRegion, timeAt, when } from "./parts.js";

const MAX_DRAWN_EVENTS = 500;
const MAX_SUMMARY_CHARACTERS = 140;
const OF_EVERY_EVENT = new Set(["timestamp", "workflow_id", "name", "test"]);

/** Return the fields of an event that tell it from others, on one line. @param {any} data */
function dataSummary(data) {
  const fields = Object.entries(data).filter(
    ([key, value]) => !OF_EVERY_EVENT.has(key) && value !== null && value !== "",
  );
  const text = fields
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" · ");
  return cut(shown(text.slice(0, 4 * MAX_SUMMARY_CHARACTERS)), MAX_SUMMARY_CHARACTERS);
}

/** @param {import("./run_log.js").RunLog} log */
export function eventsTab(log) {
  const events = log.events.value.slice(-MAX_DRAWN_EVENTS).toReversed();
  return html`
    ${when(log.isLost.value, html`<p class="banner waiting">Events are missing here: the server no longer has them.</p>`)}
    ${scrollRegion(
      "Events of the workflow",
      html`<table class="rows events of-run">
        <thead>
          <tr>
            <th scope="col" class="number">Seq</th>
            <th scope="col">Time</th>
            <th scope="col">Event</th>
            <th scope="col" class="wide">Data</th>
          </tr>
        </thead>
        <tbody>
          ${repeat(events, (event) => event.seq, eventRow)}
        </tbody>
      </table>`,
    )}
    ${when(log.hasEarlierEvents.value && log.events.value.length <= MAX_DRAWN_EVENTS, html`<p class="more"><button type="button" @click=${() => log.readEarlierEvents()}>Show earlier events</button></p>`)}
  `;
}

/** @param {import("./run_log.js").RunEvent} event */
function eventRow(event) {
  const text = JSON.stringify(event.data, null, 2);
  return html`<tr>
    <td class="number muted">${event.seq}</td>
    <td>${timeAt(event.timestamp, timeOfDayMs)}</td>
    <td>${shown(event.name)}</td>
    <td class="wide">
      <details>
        <summary>${dataSummary(event.data) || html`<span class="muted">{}</span>`}</summary>
        <div class="json">
          ${copyButton(text, "the JSON")}
          <pre tabindex="0">${text.split("\n").map(shown).join("\n")}</pre>
        </div>
      </details>
    </td>
  </tr>`;
}
