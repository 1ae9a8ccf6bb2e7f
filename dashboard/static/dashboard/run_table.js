// A table of a few runs, on a page that is about something else.

import { shown } from "./format.js";
import { html, repeat } from "./lib.js";
import { tookText } from "./pages/workflows.js";
import { heldBadge, runLink, scrollRegion, stageProgress, statusBadge, timeAgo, when } from "./parts.js";
import { errorLine } from "./run_now.js";

/** @param {import("./run_rows.js").Row[]} rows @param {string} label */
export function runTable(rows, label) {
  return scrollRegion(
    label,
    html`<table class="rows runs">
      <thead>
        <tr>
          <th scope="col">Status</th>
          <th scope="col">Workflow</th>
          <th scope="col">Stages</th>
          <th scope="col" class="wide">Stage now, or error</th>
          <th scope="col">Created</th>
          <th scope="col" class="number">Took</th>
        </tr>
      </thead>
      <tbody>
        ${repeat(
          rows,
          (row) => row.workflow_id,
          (row) =>
            html`<tr>
              <td class="state">${statusBadge("workflow", row.status)} ${when(row.held, heldBadge())}</td>
              <td class="title">${runLink(row)}</td>
              <td class="meta">${stageProgress(row)}</td>
              <td class="wide ${row.error && row.status !== "cancelled" ? "error" : ""}">
                ${row.error ? errorLine(row.error) : shown(row.stage)}
              </td>
              <td class="meta">${timeAgo(row.created_at)}</td>
              <td class="meta number">${tookText(row)}</td>
            </tr>`,
        )}
      </tbody>
    </table>`,
  );
}
