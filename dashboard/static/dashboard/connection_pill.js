// The pill in the header: whether what the page shows is the state of the server now. It never says more than is known.

import { facts, now, retryNow } from "./connection.js";
import { counted, duration, number, runningFor, timeOfDay } from "./format.js";
import { html, nothing } from "./lib.js";
import { urlOfLogin } from "./routes.js";

const MINUTE_MS = 60_000;
/** Silence of events after which a live connection says how long there was nothing. */
const QUIET_AFTER_MS = MINUTE_MS;

/**
 * @typedef {object} Pill
 * @property {"connecting" | "live" | "quiet" | "catching-up" | "stale" | "offline" | "restarting" | "degraded" | "back" | "closed"} kind
 * @property {string} sign
 * @property {string} text What is shown.
 * @property {string} spoken What a screen reader says: without numbers that change each second.
 * @property {boolean} [canRetry] Whether there is an attempt to make now.
 * @property {boolean} [canLogIn]
 */

/**
 * Return whether the server has announced its restart, and has not been away for long.
 * @param {import("./connection.js").Facts} known
 * @param {number} nowMs
 */
export function isRestarting({ state, restartsUntilMs }, nowMs) {
  return state === "draining" || (state === "offline" && restartsUntilMs !== null && nowMs < restartsUntilMs);
}

/**
 * Return what the pill shows.
 * @param {import("./connection.js").Facts} known
 * @param {number} nowMs
 * @returns {Pill}
 */
function pillOf(known, nowMs) {
  const { state, progress } = known;
  const since = timeOfDay(known.asOfMs);
  if (state === "closed") {
    const reason = known.refusal ? `Ended: ${known.refusal}` : "Ended";
    const text = known.isLoginEnded ? "Your login has ended" : reason;
    return { kind: "closed", sign: "✕", text, spoken: text, canLogIn: known.isLoginEnded };
  }
  if (isRestarting(known, nowMs)) {
    const waitMs = known.retryAtMs === null ? 0 : known.retryAtMs - nowMs;
    const text = waitMs > 0 ? `Server restarts, back in about ${runningFor(waitMs + 999)}` : "Server restarts";
    return { kind: "restarting", sign: "↻", text, spoken: "The server restarts" };
  }
  if (state === "stale") {
    const text = `No answer for ${runningFor(nowMs - known.asOfMs)}: as of ${since}`;
    return { kind: "stale", sign: "▲", text, spoken: `The server does not answer. What is shown is as of ${since}` };
  }
  if (state === "offline" || (state === "connecting" && known.retryAtMs !== null)) {
    const again =
      known.retryAtMs === null || known.retryAtMs <= nowMs
        ? "trying now"
        : `again in ${runningFor(known.retryAtMs - nowMs + 999)}`;
    if (!known.wasLive)
      return { kind: "offline", sign: "✕", text: `No connection · ${again}`, spoken: "No connection", canRetry: true };
    return {
      kind: "offline",
      sign: "✕",
      text: `Offline since ${since} · ${again}`,
      spoken: `Offline since ${since}`,
      canRetry: true,
    };
  }
  if (state === "connecting") {
    if (progress.missed > 0) {
      const text = `Catching up ${number(progress.received)} of ${number(progress.missed)}`;
      return { kind: "catching-up", sign: "◐", text, spoken: "Catching up" };
    }
    return { kind: "connecting", sign: "◐", text: known.wasLive ? "Catching up" : "Connecting", spoken: "Connecting" };
  }
  return livePill(known, nowMs);
}

/** @param {import("./connection.js").Facts} known @param {number} nowMs @returns {Pill} */
function livePill(known, nowMs) {
  const { back } = known;
  if (back && nowMs < back.untilMs) {
    const text = back.isComplete
      ? `Back. ${back.caughtUp ? `${counted(back.caughtUp, "event")} caught up, none missed` : "Nothing was missed"}.`
      : "Some history was lost; the state was read anew.";
    return { kind: "back", sign: "●", text, spoken: text };
  }
  const problem = known.problems[0];
  if (problem !== undefined) {
    const isRedis = known.problems.some((text) => text.toLowerCase().startsWith("redis"));
    const text = isRedis ? "Live, up to 0.5 s late (Redis is down)" : `Live · ${problem}`;
    return { kind: "degraded", sign: "●", text, spoken: text };
  }
  const { silentSinceMs } = known;
  const silentMs = silentSinceMs === null ? 0 : nowMs - silentSinceMs;
  if (silentSinceMs !== null && silentMs >= QUIET_AFTER_MS) {
    const minutes = runningFor(silentMs - (silentMs % MINUTE_MS));
    const text = `Live · nothing for ${minutes}, since ${timeOfDay(silentSinceMs)}`;
    return { kind: "quiet", sign: "●", text, spoken: "Live" };
  }
  const latency = known.latencyMs === null ? "" : ` · ${duration(known.latencyMs)}`;
  return { kind: "live", sign: "●", text: `Live${latency}`, spoken: "Live" };
}

/** The pill. Only the spoken text is a live region: the other one changes each second. */
export function connectionPill() {
  const pill = pillOf(facts.value, now.value);
  return html`
    <span class="pill pill-${pill.kind}" data-kind=${pill.kind}>
      <span aria-hidden="true">${pill.sign} ${pill.text}</span>
      <span class="spoken" role="status">${pill.spoken}</span>
      ${pill.canLogIn ? html`<a href=${urlOfLogin()}>Log in</a>` : nothing}
      ${pill.canRetry ? html`<button type="button" class="link" @click=${retryNow}>Now</button>` : nothing}
    </span>
  `;
}
