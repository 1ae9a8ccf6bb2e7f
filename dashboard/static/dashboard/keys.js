// Keys: `/` searches, `j` and `k` move through rows, `g` and a letter go to a page, `?` lists them.

import { goTo, urlOf } from "./routes.js";
import { html, render } from "./lib.js";
import { settings } from "./settings.js";

/** How long after `g` the letter of a page may come. */
const SEQUENCE_MS = 1_500;

/** @type {Record<string, string>} */
const PAGES = { o: "", w: "workflows", q: "questions", p: "pools", e: "events", s: "start" };

/** @type {[string, string][]} */
const HELP = [
  ["/", "Search"],
  ["j / k", "Next and previous row"],
  ["Enter", "Open the row"],
  ["g then o, w, q, p, e, s, d", "Go to Overview, Workflows, Questions, Pools, Events, Start, Docs"],
  [".", "Pause or continue the events, or follow the log"],
  ["c", "Copy the id of the page or the row"],
  ["r", "Retry the workflow of the page"],
  ["?", "This list"],
];

let lastGAt = -Infinity;

/** Rows that keys move through: every link with this attribute, in the order of the page. */
const rows = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll("main [data-row]")]);

/** @param {number} step */
function move(step) {
  const all = rows();
  if (all.length === 0) return;
  const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

/** Press the button of the page with this name in `data-key`. @param {string} name */
function press(name) {
  /** @type {HTMLElement | null} */ (document.querySelector(`[data-key="${name}"]`))?.click();
}

function showHelp() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "keys-title");
  document.body.append(dialog);
  render(
    html`<form method="dialog">
      <h2 id="keys-title">Keys</h2>
      <dl class="keys">
        ${HELP.map(
          ([key, text]) =>
            html`<div>
              <dt><kbd>${key}</kbd></dt>
              <dd>${text}</dd>
            </div>`,
        )}
      </dl>
      <div class="buttons"><button class="primary">Close</button></div>
    </form>`,
    dialog,
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
}

function copyId() {
  const button =
    document.activeElement?.closest("tr, li, article")?.querySelector(".copy") ?? document.querySelector("main .copy");
  /** @type {HTMLElement | null} */ (button)?.click();
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const { key } = event;
  const isSequence = event.timeStamp - lastGAt < SEQUENCE_MS;
  lastGAt = key === "g" ? event.timeStamp : -Infinity;
  if (isSequence && key in PAGES) goTo(urlOf(PAGES[key]));
  else if (isSequence && key === "d") location.href = settings.docs;
  else if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "/") /** @type {HTMLElement | null} */ (document.querySelector("main input[type=search]"))?.focus();
  else if (key === ".") press("pause");
  else if (key === "r") press("retry");
  else if (key === "c") copyId();
  else if (key === "?") showHelp();
  else return;
  event.preventDefault();
}

export function followKeys() {
  document.addEventListener("keydown", onKey);
}
