// Parts of pages: statuses, times, ids, progress, and what is shown where there is nothing.

import { facts, isLive, serverNow } from "./connection.js";
import { ago, bothZones, shortId, shown, timeOfDay } from "./format.js";
import { html, nothing, svg } from "./lib.js";
import { urlOfLogin, urlOfPool, urlOfRun } from "./routes.js";
import { lookOf } from "./statuses.js";
import { toast } from "./toasts.js";

const COPY_ICON = html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
  ${svg`<rect x="5.5" y="5.5" width="8" height="8" rx="1.5"></rect><path d="M10.5 3.5v-.3a1.2 1.2 0 0 0-1.2-1.2H3.2A1.2 1.2 0 0 0 2 3.2v6.1a1.2 1.2 0 0 0 1.2 1.2h.3"></path>`}
</svg>`;

/** A status as sign, word and colour. @param {"workflow" | "stage" | "worker" | "pool"} kind @param {string} status @param {string} [word] Instead of the status's own. */
export function statusBadge(kind, status, word) {
  const look = lookOf(kind, status);
  return html`<span class="status ${look.colour}"
    ><span class="sign" aria-hidden="true">${look.sign}</span> ${shown(word ?? look.word)}</span
  >`;
}

/** The badge of a run that no worker can take. */
export const heldBadge = () =>
  html`<span class="status waiting"><span class="sign" aria-hidden="true">!</span> held</span>`;

/** How long ago something was; both time zones on hover. @param {string | null | undefined} at */
export function timeAgo(at) {
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time datetime=${at} title=${bothZones(at)}>${ago(Date.parse(at), serverNow.value)}</time>`;
}

/** A time of the day; both time zones on hover. @param {string | null | undefined} at @param {(at: string) => string} [format] */
export function timeAt(at, format = timeOfDay) {
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time datetime=${at} title=${bothZones(at)}>${format(at)}</time>`;
}

/** The name of a run as a link, with the short id. @param {{workflow_id: string, name: string}} run */
export function runLink(run) {
  const id = shortId(run.workflow_id);
  return html`<a class="run-link" data-row href=${urlOfRun(run.workflow_id)} title=${run.workflow_id}
    >${run.name ? html`<span class="name">${shown(run.name)}</span> <span class="muted id">${id}</span>` : html`<span class="name">${id}</span>`}</a
  >`;
}

/** @param {string | null} poolId */
export const poolLink = (poolId) =>
  poolId === null ? html`<span class="muted">–</span>` : html`<a href=${urlOfPool(poolId)}>${shown(poolId)}</a>`;

/** The finished stages of a run, as a bar and as numbers. @param {{status: string, stages_completed: number, total_stages: number}} run */
export function stageProgress(run) {
  const colour = lookOf("workflow", run.status).colour;
  return html`<span class="stages"
    ><meter
      class="bar ${colour}"
      min="0"
      max=${run.total_stages || 1}
      value=${run.stages_completed}
      aria-label="Stages completed"
    ></meter>
    <span class="count">${run.stages_completed}/${run.total_stages}</span></span
  >`;
}

/** A button that copies a text. @param {string} text @param {string} what */
export function copyButton(text, what) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast(`Copied ${what}`);
    } catch {
      toast(`The browser did not allow to copy ${what}`);
    }
  };
  return html`<button type="button" class="icon copy" title="Copy ${what}" aria-label="Copy ${what}" @click=${copy}>
    ${COPY_ICON}
  </button>`;
}

/** A command to run in a terminal. @param {string} text */
export const command = (text) =>
  html`<span class="command"><code tabindex="0">${shown(text)}</code>${copyButton(text, "the command")}</span>`;

/** What is shown instead of what does not exist: what, why, what next. @param {string} title @param {unknown} text */
export const emptyState = (title, text) => message(html`<h2>${title}</h2>`, text);

/** The same instead of a whole page. @param {string} title @param {unknown} text */
export const emptyPage = (title, text) => message(html`<h1>${title}</h1>`, text);

/** @param {unknown} heading @param {unknown} text */
const message = (heading, text) =>
  html`<section class="empty">
    ${heading}
    <div>${text}</div>
  </section>`;

/** What is shown until the first state is known. @param {string} what */
export function loading(what) {
  const waits = facts.value.state === "live" || facts.value.state === "connecting";
  return html`<p class="muted loading">
    ${waits ? `Loading ${what}…` : `${what[0].toUpperCase()}${what.slice(1)} will be shown when the server answers.`}
  </p>`;
}

/** What is shown if the server refuses to show a part of a page. @param {Error} error @param {string} what */
export const refused = (error, what) => emptyState(...refusal(error, what));

/** The same for a whole page. @param {Error} error @param {string} what */
export const refusedPage = (error, what) => emptyPage(...refusal(error, what));

/** @param {Error} error @param {string} what @returns {[string, unknown]} */
function refusal(error, what) {
  if (facts.value.isLoginEnded) {
    const link = html`<a class="button primary" href=${urlOfLogin()}>Log in again</a>`;
    return [
      "Your login has ended",
      html`<p>Log in to see ${what}.</p>
        <p>${link}</p>`,
    ];
  }
  if (/** @type {any} */ (error).code === "FORBIDDEN") {
    const next = "Ask an administrator of this server for the permission.";
    const reason = error.message.replace(/^FORBIDDEN: /, "");
    return [`You may not see ${what}`, html`<p>${shown(reason)}. ${next}</p>`];
  }
  return [`${what[0].toUpperCase()}${what.slice(1)} cannot be shown`, html`<p>${shown(error.message)}</p>`];
}

/** The class of a page whose values are not those of the server now. What comes first is new, also while more comes. */
export function staleness() {
  const { state, wasLive } = facts.value;
  return isLive.value || (state === "connecting" && !wasLive) ? "" : "stale";
}

/** A region that scrolls sideways by itself, so that the page does not. @param {string} label @param {unknown} content */
export const scrollRegion = (label, content) =>
  html`<div class="scrolls" role="region" aria-label=${label} tabindex="0">${content}</div>`;

/** Return the content under a condition. @param {unknown} condition @param {unknown} content */
export const when = (condition, content) => (condition ? content : nothing);

/** Close a menu. @param {KeyboardEvent} event */
export function closeOnEscape(event) {
  if (event.key !== "Escape") return;
  const menu = /** @type {HTMLDetailsElement} */ (event.currentTarget);
  menu.open = false;
  menu.querySelector("summary")?.focus();
}
