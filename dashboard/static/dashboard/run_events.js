// The events of one run, newest first, each with its data.

import { lookOfEvent, summaryOf } from "./event_words.js";
import { shown, timeOfDayMs } from "./format.js";
import { html, repeat } from "./lib.js";
import { copyButton, scrollRegion, timeAt, when } from "./parts.js";

const MAX_DRAWN_EVENTS = 500;

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
  const { sign, word, colour } = lookOfEvent(event);
  const text = JSON.stringify(event.data, null, 2);
  return html`<tr>
    <td class="number muted">${event.seq}</td>
    <td>${timeAt(event.timestamp, timeOfDayMs)}</td>
    <td title=${shown(event.name)}>
      <span class="status ${colour}"><span class="sign" aria-hidden="true">${sign}</span> ${shown(word)}</span>
    </td>
    <td class="wide">
      <details>
        <summary>${summaryOf(event) || html`<span class="muted">{}</span>`}</summary>
        <div class="json">
          ${copyButton(text, "the JSON")}
          <pre tabindex="0">${text.split("\n").map(shown).join("\n")}</pre>
        </div>
      </details>
    </td>
  </tr>`;
}
