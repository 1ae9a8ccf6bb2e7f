// The one connection of a page, what is known of it, and the state that it brings.

import { AuthenticationError, Forbidden, HistoryLost, connect } from "../realtime/clients/1.0.0/mahavishnu.js";
import { batch, computed, signal } from "./lib.js";
import { settings } from "./settings.js";
import { websocketAddress } from "./websocket_address.js";

/** @typedef {import("mahavishnu-client").Client} Client */

/** How often the page asks how the server is, while it is shown. */
const STATUS_EVERY_MS = 10_000;
/** How long a server that has announced its restart counts as restarting: it stops and starts in this time. */
const RESTART_MS = 10_000;
/** How long "Back" is shown. */
const BACK_SHOWN_MS = 6_000;

/** A channel that is forbidden is shown as such by its page. */
const onError = (/** @type {any} */ error) => {
  if (!(error instanceof Forbidden)) console.warn("Mahavishnu's client:", error);
};

/** @type {Client} */
export const client = connect(websocketAddress(settings.websocket_host, settings.root), { onError });

/**
 * @typedef {object} Facts What the connection pill is made of.
 * @property {import("mahavishnu-client").ConnectionState} state
 * @property {number | null} latencyMs
 * @property {number} asOfMs When the server last sent something.
 * @property {number | null} silentSinceMs When the last event came, or the page became live without one; null if the
 *   page does not receive all events.
 * @property {number | null} retryAtMs
 * @property {{received: number, missed: number}} progress
 * @property {{caughtUp: number, isComplete: boolean, untilMs: number} | null} back After an interruption.
 * @property {number | null} restartsUntilMs Until when a server that has announced its restart may stay away.
 * @property {boolean} wasLive Whether the connection was ever live.
 * @property {string[]} problems What the server says is wrong with it.
 * @property {string} refusal Why the server refuses this page; empty if it does not.
 * @property {boolean} isLoginEnded Whether it does so because the login of the page has ended.
 */

/** @type {import("./lib.js").Signal<Facts>} */
export const facts = signal({
  state: client.state,
  latencyMs: null,
  asOfMs: Date.now(),
  silentSinceMs: null,
  retryAtMs: null,
  progress: client.progress,
  back: null,
  restartsUntilMs: null,
  wasLive: false,
  problems: [],
  refusal: "",
  isLoginEnded: false,
});

/** The time of this machine, each second. */
export const now = signal(Date.now());

/** Whether what is shown is the state of the server now. */
export const isLive = computed(() => facts.value.state === "live");

/** The time by the server's clock for durations that have not ended. It stands still while the state is not live. */
export const serverNow = computed(() => (isLive.value ? now.value : facts.value.asOfMs) + client.clockOffsetMs);

/** The position of the last event or answer that was received: what is older is on the screen. */
export const seenSeq = signal(0);

/** The events of everything, each once: pages that want them listen here. @type {Set<(event: any) => void>} */
const eventListeners = new Set();

/** Whether the server lets this user read the events of everything. */
export const readsEverything = signal(settings.reads_everything);

let silentSinceMs = /** @type {number | null} */ (null);
let interruption = /** @type {{caughtUp: number, isComplete: boolean} | null} */ (null);

/** @param {Partial<Facts>} changes */
function change(changes) {
  facts.value = { ...facts.value, ...changes };
}

function readClient() {
  const { state, retryAt, progress, lastError } = client;
  const refusal = state === "closed" && lastError ? lastError.message : "";
  const wasLive = facts.value.wasLive || state === "live";
  if (state === "live" && readsEverything.peek()) silentSinceMs ??= Date.now();
  let { back } = facts.value;
  if (state === "live" && interruption) {
    back = { ...interruption, untilMs: Date.now() + BACK_SHOWN_MS };
    interruption = null;
  } else if (state !== "live") {
    back = null;
    if (wasLive) interruption ??= { caughtUp: 0, isComplete: true };
  }
  let { restartsUntilMs } = facts.value;
  if (state === "live") restartsUntilMs = null;
  else if (state === "draining") restartsUntilMs ??= Date.now() + RESTART_MS;
  change({
    restartsUntilMs,
    state,
    retryAtMs: retryAt?.getTime() ?? null,
    progress,
    asOfMs: client.server ? client.asOf.getTime() : facts.value.asOfMs,
    refusal,
    isLoginEnded: state === "closed" && lastError instanceof AuthenticationError,
    wasLive,
    back,
  });
}

/** @param {any} item An event, or a gap. */
function onItem(item) {
  const isGap = item instanceof HistoryLost;
  silentSinceMs = Date.now();
  if (!isGap && item.seq > seenSeq.peek()) seenSeq.value = item.seq;
  if (isGap || item.replayed) noteMissed(isGap);
  if (client.state === "connecting") change({ progress: client.progress });
  for (const listener of eventListeners) listener(item);
}

/**
 * Count an event that was missed, or note a gap. The last ones are handled after the connection is live.
 * @param {boolean} isGap
 */
function noteMissed(isGap) {
  const { back, wasLive } = facts.value;
  const noted = interruption ?? back ?? (wasLive && isGap ? { caughtUp: 0, isComplete: true } : null);
  if (!noted) return;
  if (isGap) noted.isComplete = false;
  else noted.caughtUp++;
  if (noted !== interruption) change({ back: { ...noted, untilMs: Date.now() + BACK_SHOWN_MS } });
}

/**
 * Call a function with each event of the channel `summary`, and with each gap (`HistoryLost`).
 * @param {(item: any) => void} listener
 * @returns {() => void}
 */
export function onEvents(listener) {
  eventListeners.add(listener);
  return () => eventListeners.delete(listener);
}

/** Follow the events of everything. A user who may not read them has pages of single resources. */
async function followEverything() {
  if (!settings.reads_everything) return;
  try {
    for await (const item of client.events("summary")) onItem(item);
  } catch (error) {
    if (error instanceof Forbidden) readsEverything.value = false;
    else onError(error);
  }
}

/** Ask how the server is. The answer also shows how long an answer takes, and what time it is there. */
async function askServer() {
  if (document.hidden || client.state !== "live") return;
  const askedAt = performance.now();
  try {
    const status = await client.getServerStatus();
    const latencyMs = performance.now() - askedAt;
    change({ latencyMs, problems: status.problems ?? [] });
    if (status.seq && status.seq > seenSeq.peek()) seenSeq.value = status.seq;
  } catch {
    // The state of the connection says more than the failed request.
  }
}

/** Begin to follow the connection. */
export function openConnection() {
  client.onState(() => {
    readClient();
    if (client.state === "live") void askServer();
  });
  setInterval(() => {
    batch(() => {
      now.value = Date.now();
      if (facts.value.silentSinceMs !== silentSinceMs) change({ silentSinceMs });
      readClient();
    });
  }, 1000);
  setInterval(() => void askServer(), STATUS_EVERY_MS);
  void followEverything();
}

/**
 * @template S
 * @typedef {object} Followed
 * @property {S | null | undefined} value The state: undefined until it is known, null if it does not exist.
 * @property {Error | null} error Why the server does not show it.
 * @property {() => void} stop
 */

/**
 * Follow a state of the client. Reading `value` in a view draws it again after each change.
 * @template S
 * @param {{getSnapshot: () => S, subscribe: (listener: () => void, onError: (error: Error) => void) => () => void}} store
 * @returns {Followed<S>}
 */
export function follow(store) {
  const version = signal(0);
  const failure = signal(/** @type {Error | null} */ (null));
  // A change only marks the state: it is put together when a frame shows it.
  const stop = store.subscribe(
    () => (version.value = version.peek() + 1),
    (error) => (failure.value = error),
  );
  return {
    get value() {
      version.value;
      return store.getSnapshot();
    },
    get error() {
      return failure.value;
    },
    stop,
  };
}

/** Try to connect now. */
export const retryNow = () => client.probe();
