// The title and the icon of the tab: failures since the page was last looked at, and a lost connection.

import { facts, onEvents } from "./connection.js";
import { isRestarting } from "./connection_pill.js";
import { effect, signal } from "./lib.js";

/** The icon with a red dot. It is not a file: a server that does not answer cannot send it. */
const ALERT_ICON = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#4f46e5"/>' +
    '<path d="M6 23V9l10 8 10-8v14" fill="none" stroke="#fff" stroke-width="3.5" stroke-linejoin="round"/>' +
    '<circle cx="25" cy="7" r="7" fill="#c2261c" stroke="#fff" stroke-width="2"/></svg>',
)}`;

/** What the page that is shown is called. */
export const pageTitle = signal(document.title.replace(/ · Mahavishnu$/, ""));

/** How many workflows have failed while the tab was hidden. */
const unseenFailures = signal(0);

/** Whether an event, or a gap, is a failure that comes while the page is hidden. @param {any} item */
export const isUnseenFailure = ({ name, data }) => document.hidden && name === "workflow.failed" && data.test !== true;

export function followTitle() {
  const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
  const calm = icon.href;
  onEvents((item) => {
    if (isUnseenFailure(item)) unseenFailures.value++;
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) unseenFailures.value = 0;
  });
  effect(() => {
    const { state, wasLive } = facts.value;
    const isExpected = isRestarting(facts.value, Date.now());
    const isLost = wasLive && !isExpected && (state === "offline" || state === "stale" || state === "closed");
    const failures = unseenFailures.value;
    const parts = [isLost && "Offline", failures > 0 && `${failures} failed`, pageTitle.value, "Mahavishnu"];
    document.title = parts.filter(Boolean).join(" · ");
    const wanted = isLost || failures > 0 ? ALERT_ICON : calm;
    if (icon.href !== wanted) icon.href = wanted;
  });
}
