// The page: it opens the connection, and draws the part that the address names.

import { client, facts, openConnection } from "./connection.js";
import { connectionPill } from "./connection_pill.js";
import { TIME_ZONE } from "./format.js";
import { draw } from "./frames.js";
import { followKeys } from "./keys.js";
import { computed, effect, html, untracked } from "./lib.js";
import { followFailures } from "./notifications.js";
import { emptyPage, refusedPage } from "./parts.js";
import { followLinks, route, urlOf } from "./routes.js";
import { followTitle, pageTitle } from "./title.js";
import { showToasts } from "./toasts.js";

/**
 * @typedef {object} Page One part of the dashboard while it is shown.
 * @property {() => string} title
 * @property {() => unknown} view
 * @property {() => void} [close] Ends its subscriptions.
 */

/** @typedef {{open: (id: string) => Page}} PageModule */

/** @type {Record<string, () => Promise<PageModule>>} */
const PAGES = {
  overview: () => import("./pages/overview.js"),
  workflows: () => import("./pages/workflows.js"),
  workflow: () => import("./pages/workflow.js"),
  questions: () => import("./pages/questions.js"),
  pools: () => import("./pages/pools.js"),
  pool: () => import("./pages/pool.js"),
  events: () => import("./pages/events.js"),
  start: () => import("./pages/start.js"),
};

/** How long after the first page the other ones are loaded. */
const LOAD_OTHERS_AFTER_MS = 1_500;

/** @type {Page} */
const MISSING = {
  title: () => "Not found",
  view: () =>
    emptyPage(
      "There is no such page",
      html`<p>The address is not one of this server. <a href=${urlOf("")}>Go to the overview</a>.</p>`,
    ),
};

/** @type {Page} */
const UNLOADED = {
  title: () => "Not loaded",
  view: () =>
    emptyPage("The page could not be loaded", html`<p>The server did not answer. The page is loaded when it does.</p>`),
};

const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** Draw the page of the address; another one when its page or its id changes. The page itself follows its query. */
function showPages() {
  const shown = computed(() => `${route.value.page} ${route.value.id}`);
  let close = /** @type {(() => void) | null} */ (null);
  let wanted = "";
  effect(() => {
    const key = (wanted = shown.value);
    const { page, id } = untracked(() => route.value);
    markLink(page);
    void loaded(page).then((module) => {
      // The address has changed meanwhile.
      if (wanted !== key) return;
      // A client that has ended follows nothing: the server shows the page of the address, or the login.
      if (close && client.state === "closed") return location.reload();
      close?.();
      close = show(opened(module, id));
    });
  });
}

/** @param {PageModule} module @param {string} id @returns {Page} */
function opened(module, id) {
  try {
    return module.open(id);
  } catch (error) {
    return { title: () => "Ended", view: () => refusedPage(/** @type {Error} */ (error), "this page") };
  }
}

/** @param {Page} page @returns {() => void} */
function show(page) {
  const stopTitle = effect(() => void (pageTitle.value = page.title()));
  const stopDrawing = draw(main, () => {
    try {
      return page.view();
    } catch (error) {
      // What it has read is still followed: the next change draws it again.
      reportError(error);
      return refusedPage(/** @type {Error} */ (error), "this page");
    }
  });
  return () => {
    stopDrawing();
    stopTitle();
    page.close?.();
  };
}

/** @param {string} page @returns {Promise<PageModule>} */
async function loaded(page) {
  if (!(page in PAGES)) return { open: () => MISSING };
  try {
    return await PAGES[page]();
  } catch {
    // The server has ended meanwhile. The address is the whole state of the page, so nothing is lost.
    void client.waitLive().then(() => location.reload());
    return { open: () => UNLOADED };
  }
}

/** Load the other pages too, so that links between them work while there is no connection. */
async function loadOthers() {
  await client.waitLive();
  await new Promise((resolve) => setTimeout(resolve, LOAD_OTHERS_AFTER_MS));
  if (client.state === "live") await Promise.allSettled(Object.values(PAGES).map((load) => load()));
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
/** @type {HTMLElement} */ (document.getElementById("zone")).textContent = `Times in ${TIME_ZONE}`;
draw(/** @type {HTMLElement} */ (document.getElementById("connection")), connectionPill);
effect(() => void (document.body.dataset.connection = facts.value.state));
showToasts(/** @type {HTMLElement} */ (document.getElementById("toasts")));
followLinks();
followKeys();
followTitle();
followFailures();
showPages();
void loadOthers().catch(() => {});
