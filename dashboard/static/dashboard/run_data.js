// What a run was given and what it has returned, its times, and where it is.

import { number, shown } from "./format.js";
import { html } from "./lib.js";
import { copyButton, timeAgo, timeAt, when } from "./parts.js";
import { urlOfAdmin } from "./routes.js";
import { settings } from "./settings.js";

/** @typedef {import("mahavishnu-client").Run} Run */

/** Return a text with its lines, and hidden characters as escapes. @param {string} text */
export const escapedLines = (text) => text.split("\n").map(shown).join("\n");

/** @param {Run} run */
export function dataTab(run) {
  return html`<div class="data">
    ${when(
      run.prompt,
      html`<h2>Prompt</h2>
        <pre tabindex="0">${escapedLines(run.prompt)}</pre>`,
    )}
    <h2>Parameters</h2>
    ${json(run.params)}
    <h2>Result</h2>
    ${run.finished_at === null ? html`<p class="muted">The workflow has not ended.</p>` : json(run.result)}
    <h2>Times</h2>
    <dl class="facts-list">
      <div>
        <dt>Created</dt>
        <dd>${timeAt(run.created_at)} (${timeAgo(run.created_at)})</dd>
      </div>
      <div>
        <dt>Started</dt>
        <dd>${timeAt(run.started_at)}</dd>
      </div>
      <div>
        <dt>Finished</dt>
        <dd>${timeAt(run.finished_at)}</dd>
      </div>
      <div>
        <dt>Adapter</dt>
        <dd>${shown(run.adapter)}</dd>
      </div>
      <div>
        <dt>Id</dt>
        <dd><code>${run.workflow_id}</code> ${copyButton(run.workflow_id, "the id")}</dd>
      </div>
      ${when(
        settings.admin,
        html`<div>
          <dt>Admin</dt>
          <dd>
            <a href=${urlOfAdmin("workflow", run.workflow_id)}
              >The row of this workflow, with its attempts and tracebacks</a
            >
          </dd>
        </div>`,
      )}
    </dl>
  </div>`;
}

/** Return whether a browser may have rounded a number in JSON. @param {any} value @returns {boolean} */
function isRounded(value) {
  if (typeof value === "number") return Number.isInteger(value) && !Number.isSafeInteger(value);
  return typeof value === "object" && value !== null && Object.values(value).some(isRounded);
}

/** @param {unknown} value */
function json(value) {
  if (value === null || value === undefined || (typeof value === "object" && Object.keys(value).length === 0)) {
    return html`<p class="muted">None</p>`;
  }
  const text = JSON.stringify(value, null, 2);
  return html`<div class="json">
      ${copyButton(text, "the JSON")}
      <pre tabindex="0">${escapedLines(text)}</pre>
    </div>
    ${when(isRounded(value), html`<p class="muted">A browser rounds whole numbers above ${number(Number.MAX_SAFE_INTEGER)}: the admin shows them exactly.</p>`)}`;
}
