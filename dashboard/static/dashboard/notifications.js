// Notifications of the desktop about workflows that fail while the page is hidden. Each browser turns them on by itself.

import { onEvents } from "./connection.js";
import { counted, firstLine, nameOf } from "./format.js";
import { html, nothing, signal } from "./lib.js";
import { goTo, urlOfFailures, urlOfRun } from "./routes.js";
import { isUnseenFailure } from "./title.js";
import { toast } from "./toasts.js";

const KEY = "mahavishnu.notifications";
/** The shortest time between two notifications: failures in between are counted in the next one. */
const NOTIFY_EVERY_MS = 10_000;

const isOn = signal(isWanted());

let lastFailure = /** @type {any} */ (null);
let failureCount = 0;
let timer = 0;

function isWanted() {
  try {
    return localStorage.getItem(KEY) === "on" && Notification.permission === "granted";
  } catch {
    return false;
  }
}

/** @param {boolean} wanted */
function keep(wanted) {
  isOn.value = wanted;
  try {
    localStorage.setItem(KEY, wanted ? "on" : "off");
  } catch {
    // A browser that stores nothing asks again at the next visit.
  }
}

async function toggle() {
  if (isOn.value) keep(false);
  else if ((await Notification.requestPermission()) === "granted") keep(true);
  else toast("The browser does not allow notifications of this page. Its settings can allow them.");
}

/** @param {any} item */
function onItem(item) {
  if (!isUnseenFailure(item) || !isOn.peek()) return;
  failureCount++;
  lastFailure = item.data;
  if (!timer) notify();
}

function notify() {
  timer = 0;
  if (failureCount === 0) return;
  const isOne = failureCount === 1;
  const title = isOne ? `${nameOf(lastFailure)} failed` : `${counted(failureCount, "workflow")} failed`;
  const url = isOne ? urlOfRun(lastFailure.workflow_id) : urlOfFailures();
  failureCount = 0;
  timer = window.setTimeout(notify, NOTIFY_EVERY_MS);
  try {
    // The tag makes the notifications of several tabs one.
    const notification = new Notification(title, { body: firstLine(lastFailure.error), tag: "mahavishnu" });
    notification.onclick = () => {
      window.focus();
      goTo(url);
      notification.close();
    };
  } catch {
    // Browsers of phones only show those of service workers.
    keep(false);
  }
}

/** Begin to notify of failures. */
export function followFailures() {
  onEvents(onItem);
}

/** The button that turns notifications on and off; nothing where the browser has none. */
export const notificationButton = () =>
  "Notification" in window && window.isSecureContext
    ? html`<button type="button" class="link" @click=${toggle}>
        ${isOn.value ? "Stop notifying me" : "Notify me of failures"}
      </button>`
    : nothing;
