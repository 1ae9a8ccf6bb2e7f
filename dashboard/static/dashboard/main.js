// The page: it opens the connection, and draws the part that the address names.

import { facts, openConnection } from "./connection.js";
import { connectionPill } from "./connection_pill.js";
import { draw } from "./frames.js";
import { followKeys } from "./keys.js";
import { computed, effect, html, untracked } from "./lib.js";
import { emptyPage } from "./parts.js";
import { followLinks, route, urlOf } from "./routes.js";
import { followTitle, pageTitle } from "./title.js";
import { showToasts } from "./toasts.js";
// All at once: a link works while the server is away.
import * as events from "./pages/events.js";
import * as overview from "./pages/overview.js";
import * as pool from "./pages/pool.js";
import * as pools from "./pages/pools.js";
import * as start from "./pages/start.js";
import * as workflow from "./pages/workflow.js";
import * as workflows from "./pages/workflows.js";

/**
 * @typedef {object} Page One part of the dashboard while it is shown.
 * @property {() => string} title
 * @property {() => unknown} view
 * @property {() => void} [close] Ends its subscriptions.
 */

/** @type {Record<string, (id: string) => Page>} */
const PAGES = {
  overview: overview.open,
  workflows: workflows.open,
  workflow: workflow.open,
  pools: pools.open,
  pool: pool.open,
  events: events.open,
  start: start.open,
};

/** @type {Page} */
const MISSING = {
  title: () => "Not found",
  view: () =>
    emptyPage(
      "There is no such page",
      html`<p>The address is not one of this server. <a href=${urlOf("")}>Go to the overview</a>.</p>`,
    ),
};

const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** Draw the page of the address; another one when its page or its id changes. The page itself follows its query. */
function showPages() {
  const shown = computed(() => `${route.value.page} ${route.value.id}`);
  let close = () => {};
  effect(() => {
    shown.value;
    untracked(() => {
      const { page, id } = route.value;
      close();
      markLink(page);
      const opened = PAGES[page]?.(id) ?? MISSING;
      const stopTitle = effect(() => void (pageTitle.value = opened.title()));
      const stopDrawing = draw(main, opened.view);
      close = () => {
        stopDrawing();
        stopTitle();
        opened.close?.();
      };
    });
  });
}

/** Mark the link of the page in the navigation. @param {string} page */
function markLink(page) {
  const section = { workflow: "workflows", pool: "pools", start: "workflows" }[page] ?? page;
  for (const link of document.querySelectorAll(".rail a")) {
    if (/** @type {HTMLElement} */ (link).dataset.page === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

openConnection();
draw(/** @type {HTMLElement} */ (document.getElementById("connection")), connectionPill);
effect(() => void (document.body.dataset.connection = facts.value.state));
showToasts(/** @type {HTMLElement} */ (document.getElementById("toasts")));
followLinks();
followKeys();
followTitle();
showPages();
