// The title and the icon of the tab: failures since the page was last looked at, and a lost connection.

import { facts, onEvents } from "./connection.js";
import { effect, signal } from "./lib.js";

/** What the page that is shown is called. */
export const pageTitle = signal(document.title.replace(/ · Mahavishnu$/, ""));

/** How many workflows have failed while nobody looked. */
const unseenFailures = signal(0);

export function followTitle() {
  const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
  const calm = icon.href;
  const alert = /** @type {string} */ (icon.dataset.alert);
  onEvents((item) => {
    if (document.hidden && item.name === "workflow.failed" && item.data.test !== true) unseenFailures.value++;
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) unseenFailures.value = 0;
  });
  effect(() => {
    const { state, wasLive } = facts.value;
    const isLost = wasLive && (state === "offline" || state === "stale" || state === "closed");
    const failures = unseenFailures.value;
    const parts = [isLost && "Offline", failures > 0 && `${failures} failed`, pageTitle.value, "Mahavishnu"];
    document.title = parts.filter(Boolean).join(" · ");
    const wanted = isLost || failures > 0 ? alert : calm;
    if (icon.href !== new URL(wanted, location.href).href) icon.href = wanted;
  });
}
