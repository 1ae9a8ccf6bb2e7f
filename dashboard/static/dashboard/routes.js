// The pages and their addresses. The address is the whole state of a page: a copied link shows the same.

import { settings } from "./settings.js";
import { signal } from "./lib.js";

/**
 * @typedef {object} Route
 * @property {string} page The name of the page; "missing" if no page has the path.
 * @property {string} id What the page is about; empty if it is a list.
 * @property {URLSearchParams} query
 * @property {string} tab The part of the page, behind `#`.
 */

/** @type {[RegExp, string][]} */
const ROUTES = [
  [/^$/, "overview"],
  [/^workflows$/, "workflows"],
  [/^workflows\/([\w.-]{1,128})$/, "workflow"],
  [/^questions$/, "questions"],
  [/^pools$/, "pools"],
  [/^pools\/([\w.-]{1,128})$/, "pool"],
  [/^events$/, "events"],
  [/^start$/, "start"],
  [/^start\/([^/]+)$/, "start"],
];

/** @param {URL | Location} address @returns {Route} */
export function parseRoute(address) {
  const path = address.pathname.startsWith(settings.root) ? address.pathname.slice(settings.root.length) : "-";
  const query = new URLSearchParams(address.search);
  const tab = address.hash.slice(1);
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(path);
    if (match) return { page, id: decoded(match[1] ?? ""), query, tab };
  }
  return { page: "missing", id: "", query, tab };
}

/** Return a part of a path as text. Browsers leave a `%` in an address that was typed. @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The page that is shown. */
export const route = signal(parseRoute(location));

/** @param {string} path Such as `workflows/wf_1`, without the root. @param {Record<string, string>} [query] */
export function urlOf(path, query = {}) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return settings.root + path + (search ? `?${search}` : "");
}

/** @param {string} workflowId */
export const urlOfRun = (workflowId) => urlOf(`workflows/${workflowId}`);

/** @param {string} poolId */
export const urlOfPool = (poolId) => urlOf(`pools/${poolId}`);

/**
 * The page of a row in the admin. Its ids have `_` and two digits for what a URL may not contain.
 * @param {"workflow" | "pool" | "worker"} model @param {string} id
 */
export const urlOfAdmin = (model, id) => `${settings.admin}orchestration/${model}/${id.replaceAll("_", "_5F")}/change/`;

/** The runs that failed in 24 hours. */
export const urlOfFailures = () => urlOf("workflows", { status: "failed,timeout", ended: "24h" });

/** The login that leads back to what is shown. */
export const urlOfLogin = () =>
  `${settings.login}?${new URLSearchParams({ next: location.pathname + location.search + location.hash })}`;

/** Show another page. @param {string} url @param {{replace?: boolean}} [options] */
export function goTo(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", url);
  route.value = parseRoute(location);
}

/** Change a part of the query of the page that is shown. @param {Record<string, string>} changes "" removes a part. */
export function changeQuery(changes) {
  const query = { ...Object.fromEntries(route.value.query), ...changes };
  const path = location.pathname.slice(settings.root.length);
  goTo(urlOf(path, query) + location.hash, { replace: true });
}

/** Follow links to pages without loading a document: the connection and what was read stay. */
export function followLinks() {
  addEventListener("popstate", () => (route.value = parseRoute(location)));
  document.addEventListener("click", (event) => {
    if (
      event.defaultPrevented ||
      event.button !== 0 ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      event.altKey
    )
      return;
    const link = /** @type {Element} */ (event.target).closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.getAttribute("href")?.startsWith("#") && !link.dataset.tab) {
      // The part behind `#` of the address is that of the page.
      event.preventDefault();
      document.getElementById(link.hash.slice(1))?.focus();
      return;
    }
    if (parseRoute(new URL(link.href)).page === "missing") return;
    event.preventDefault();
    const isSamePage = link.pathname === location.pathname;
    goTo(link.href);
    if (!isSamePage) {
      scrollTo(0, 0);
      document.getElementById("main")?.focus({ preventScroll: true });
    }
  });
}
