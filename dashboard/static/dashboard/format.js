// Texts of times, durations, numbers and ids. Everything from a server is escaped with `shown` before it is drawn.

import { escapeLine } from "./escape.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const SHORT_ID_CHARACTERS = 6;

/** The time zone in which times are shown, such as `Europe/Berlin`. */
export const TIME_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

const TIME = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const DAY_TIME = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  hour12: false,
});
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const NUMBER = new Intl.NumberFormat("en");

/** Return one line of a text of the server, with hidden characters as escapes. @param {unknown} text */
export const shown = (text) => escapeLine(String(text ?? ""));

/** @param {number} count */
export const number = (count) => NUMBER.format(count);

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Return a duration: `97 ms`, `4.0 s`, `3 min 5 s`, `2 h 4 min`, `3 d 4 h`. @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const whole = Math.max(0, ms);
  if (whole < 1000) return `${Math.round(whole)} ms`;
  if (whole < 10_000) return `${(Math.floor(whole / 100) / 10).toFixed(1)} s`;
  if (whole < MINUTE_MS) return `${Math.floor(whole / 1000)} s`;
  return longDuration(whole);
}

/** Return a duration that has not ended, in whole seconds: it does not flicker. @param {number} ms */
export function runningFor(ms) {
  return ms < MINUTE_MS ? `${Math.max(0, Math.floor(ms / 1000))} s` : longDuration(ms);
}

/** @param {number} ms */
function longDuration(ms) {
  const [big, small, bigWord, smallWord] =
    ms < HOUR_MS
      ? [MINUTE_MS, 1000, "min", "s"]
      : ms < DAY_MS
        ? [HOUR_MS, MINUTE_MS, "h", "min"]
        : [DAY_MS, HOUR_MS, "d", "h"];
  const rest = Math.floor((ms % big) / small);
  return `${Math.floor(ms / big)} ${bigWord}${rest ? ` ${rest} ${smallWord}` : ""}`;
}

/** Return how long ago something was: `now`, `12 s ago`, `3 min ago`, then the day. @param {number} atMs @param {number} nowMs */
export function ago(atMs, nowMs) {
  const ms = nowMs - atMs;
  if (ms < 1000) return "now";
  if (ms < MINUTE_MS) return `${Math.floor(ms / 1000)} s ago`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min ago`;
  if (ms < DAY_MS) return `${Math.floor(ms / HOUR_MS)} h ago`;
  return DAY_TIME.format(atMs);
}

/** Return how long until something is: `in 3 s`. @param {number} atMs @param {number} nowMs */
export const until = (atMs, nowMs) => (atMs <= nowMs ? "now" : `in ${runningFor(atMs - nowMs + 999)}`);

/** The time of day in the time zone of this machine. @param {number | string | Date} at */
export const timeOfDay = (at) => TIME.format(new Date(at));

/** The same with milliseconds. @param {number | string | Date} at */
export function timeOfDayMs(at) {
  const date = new Date(at);
  return `${TIME.format(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** The time in both zones, for tooltips. @param {number | string | Date} at */
export function bothZones(at) {
  const date = new Date(at);
  return `${FULL.format(date)} (${TIME_ZONE}) · ${date.toISOString().replace("T", " ").replace("Z", "")} UTC`;
}

/** Return the end of an id, which differs from that of others: `wf_…d69bf6` is `d69bf6`; short ids are whole. @param {string} id */
export function shortId(id) {
  const match = /^(?:wf_)?[0-9a-f]{32}$/.exec(id);
  return shown(match ? id.slice(-SHORT_ID_CHARACTERS) : id);
}

/** Return what a run is called: its name, or its id if it has none. @param {{name: string, workflow_id: string}} run */
export const nameOf = (run) => shown(run.name || run.workflow_id);

/** Return the first line of an error, which names its kind. @param {string} error */
export function firstLine(error) {
  return shown(error.trimStart().split("\n", 1)[0]);
}

/** Return a text with a bound. @param {string} text @param {number} maxCharacters */
export function cut(text, maxCharacters) {
  return text.length <= maxCharacters ? text : `${text.slice(0, maxCharacters).replace(/[\ud800-\udbff]$/, "")}…`;
}
