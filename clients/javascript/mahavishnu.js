// @ts-check
/**
 * The client of Mahavishnu for browsers and Node.js 22 or newer: one module without dependencies.
 *
 * A client keeps one WebSocket, reconnects it, and resumes every channel without losing or repeating an event. It has
 * three levels: events (`client.events`), requests (`client.getWorkflowStatus`), and state (`client.follow`).
 *
 * Sections: errors, options, tokens, queues of events, state for user interfaces, subscriptions, the client, the fold.
 *
 * @module mahavishnu-client
 */

/** @typedef {import("./mahavishnu.js").StoredPosition} StoredPosition */
/** @typedef {import("./mahavishnu.js").ClientOptions} ClientOptions */
/** @typedef {import("./mahavishnu.js").ConnectionState} ConnectionState */
/** @typedef {import("./mahavishnu.js").Event} Event */
/** @typedef {import("./mahavishnu.js").Position} Position */
/** @typedef {import("./mahavishnu.js").State} State */
/** @typedef {{seq: number, epoch: string | null}} LogPosition */
/** @typedef {{item: Event | HistoryLost, bytes: number, consumer: Consumer} & LogPosition} Entry */
/** @typedef {{text: string, sent: boolean, timer: any, onAnswer: (data: any) => void,
 *   resolve: (data: any) => void, reject: (error: Error) => void}} PendingRequest */

/** The version of this module. */
export const VERSION = "1.0.0";

// --- Errors, and the item for lost history --------------------------------------------------------------------------

/** The base class of the client's errors. Gaps in the history are no errors: see `HistoryLost`. */
export class ClientError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The server answered a request with an error. */
export class RequestFailed extends ClientError {
  /** @param {any} message The error message of the server. */
  constructor(message) {
    super(`${message.error_code}: ${message.error_message}`);
    /** @type {string} */
    this.code = message.error_code;
    /** @type {boolean} */
    this.retryable = message.retryable === true;
    /** @type {number | null} */
    this.retryAfterMs = message.retry_after_ms ?? null;
  }
}

/** No workflow, pool or worker has the id of the request. */
export class NotFound extends RequestFailed {}

/** The client has no permission for the request or the channel, or has it no longer. */
export class Forbidden extends RequestFailed {}

/** The server requires a token, or does not accept the one of this client. The client has ended. */
export class AuthenticationError extends ClientError {
  /** @param {any} message The error message of the server. */
  constructor(message) {
    super(`${message.error_code}: ${message.error_message}`);
    /** `AUTH_REQUIRED` or `AUTH_FAILED`. @type {string} */
    this.code = message.error_code;
  }
}

/** The connection ended before a request was answered, or there was none in time. */
export class ConnectionLost extends ClientError {
  /**
   * @param {string} message
   * @param {boolean} maybeDone Whether the request was sent, so that the server may have executed it.
   */
  constructor(message, maybeDone) {
    super(message);
    this.maybeDone = maybeDone;
  }
}

/** The server was connected and did not answer in time. */
export class RequestTimeout extends ClientError {
  /** The server may have executed the request. */
  maybeDone = true;
}

/** The server sent what is not a message of this protocol. The client reports it to `onError`, and reconnects. */
export class ProtocolError extends ClientError {}

/** The client was closed. */
export class ClientClosed extends ClientError {
  constructor() {
    super("The client was closed");
  }
}

const AUTHENTICATION_CODES = new Set(["AUTH_REQUIRED", "AUTH_FAILED"]);

/** @type {Map<string, typeof RequestFailed>} */
const FAILURES = new Map([
  ["NOT_FOUND", NotFound],
  ["FORBIDDEN", Forbidden],
]);

/** @param {any} message An error message of the server. */
const failureOf = (message) => new (FAILURES.get(message.error_code) ?? RequestFailed)(message);

/** A gap: events of the channel that can no longer be delivered. What follows is complete again. */
export class HistoryLost {
  /**
   * @param {string} channel
   * @param {string} reason `epoch`, `ahead`, `trimmed` or `limit`, as in the protocol.
   * @param {number} seq The position after which events follow.
   * @param {string} epoch The log of `seq`.
   */
  constructor(channel, reason, seq, epoch) {
    this.channel = channel;
    this.reason = reason;
    this.seq = seq;
    this.epoch = epoch;
    Object.freeze(this);
  }
}

// --- Options --------------------------------------------------------------------------------------------------------

/** The defaults of the options. */
const DEFAULTS = Object.freeze({
  /** @type {number | null} */ pingAfterMs: null,
  pongWithinMs: 5_000,
  probeWithinMs: 2_000,
  clockJumpMs: 30_000,
  firstRetryMs: 500,
  maxRetryMs: 10_000,
  openTimeoutMs: 5_000,
  stableAfterMs: 1_000,
  requestTimeoutMs: 30_000,
  rereadAfterMs: 5_000,
  maxQueuedEvents: 10_000,
  maxQueuedBytes: 16 * 1024 * 1024,
  maxPendingRequests: 1_000,
});

/** What a server promises that says nothing in `session.created`. */
const DEFAULT_PING_AFTER_MS = 10_000;
const DEFAULT_MESSAGES_PER_SECOND = 100;
const DEFAULT_MESSAGE_BURST = 150;

/** The share of the server's message limit that is used: messages may reach it closer together than they were sent. */
const USED_SHARE_OF_LIMIT = 0.8;

/** Close codes after which the first attempt follows at once. After others, the server needs a pause. */
const AT_ONCE_CODES = new Set([1000, 1001, 1005, 1006, 1009]);

/** The close code that stands for a message that cannot be read. */
const INVALID_MESSAGE = 1007;

/** The longest time between two looks at the clocks. */
const MAX_TICK_MS = 1_000;

/** A timer that is this late did not run on time: the messages that arrived meanwhile come first. */
const LATE_TIMER_MS = 1_000;

/** `subscribe` requests that wait for their answers at the same time: as many as the server works on. */
const MAX_SUBSCRIBES_IN_FLIGHT = 16;

/** Pause before a failed subscription to a stream is repeated, if the server gives no time. */
const STREAM_RETRY_MS = 1_000;

/** A position of the log older than this is no start for events "from now on": too many would be replayed. */
const HEAD_VALID_MS = 30_000;

/** How many positions of channels that are no longer read are kept. */
const MAX_KEPT_POSITIONS = 1_000;

const monotonicMs = () => performance.now();

/** @param {unknown} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** @param {any} position @returns {StoredPosition | null} */
function checkedPosition(position) {
  if (position === null || position === undefined) return null;
  const { seq, epoch } = position;
  if (Number.isInteger(seq) && seq >= 0 && typeof epoch === "string" && epoch !== "") return position;
  throw new TypeError(`Invalid position ${JSON.stringify(position)}: expected a client.position`);
}

// --- Tokens ---------------------------------------------------------------------------------------------------------

/** The subprotocols that a client with a token offers: a WebSocket of a browser sends no header. */
const SUBPROTOCOL = "mahavishnu.v1";
const TOKEN_PREFIX = "bearer.";

const INVALID_TOKEN = "Invalid token: expected letters, digits and . _ ~ + - only";
const TOKEN = /^[A-Za-z0-9._~+-]+$/;
const URL_WITH_TOKEN =
  /[?&;#](((access_?|auth_?|id_|bearer_)?token|bearer|jwt|auth|authorization)=|[^&;#]*=(bearer(%20|\+))?eyJ[\w-]+\.[\w-]+\.)/i;

/** @param {string} url */
function checkUrlHasNoToken(url) {
  if (!URL_WITH_TOKEN.test(url)) return;
  throw new TypeError("A URL must not contain a token, because URLs are logged: use the option `token`");
}

/** The token that the user has given, as a text or as a function. No message of an error contains a token. */
class TokenSource {
  /** @type {string | (() => string | Promise<string>) | null} */ #given;

  /** @param {any} given */
  constructor(given) {
    if (given !== null && given !== undefined && typeof given !== "string" && typeof given !== "function") {
      throw new TypeError("Invalid token: expected a text, or a function that returns one");
    }
    this.#given = typeof given === "string" ? given.trim() : (given ?? null);
    if (typeof this.#given === "string" && !TOKEN.test(this.#given)) throw new TypeError(INVALID_TOKEN);
  }

  get isFunction() {
    return typeof this.#given === "function";
  }

  /** The token, if it is a text. */
  get text() {
    return typeof this.#given === "string" ? this.#given : null;
  }

  /**
   * Return a new token.
   * @param {number} timeoutMs
   * @returns {Promise<string>}
   * @throws {ClientError} if the function fails, takes longer, or returns no token. Its error is the `cause`.
   */
  async fetch(timeoutMs) {
    /** @type {any} */ let timer;
    const timeout = new ClientError(`No token within ${Math.round(timeoutMs)} ms`);
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(timeout), timeoutMs);
    });
    /** @type {unknown} */ let token;
    try {
      token = await Promise.race([/** @type {() => unknown} */ (this.#given)(), late]);
    } catch (error) {
      if (error === timeout) throw error;
      // Without the message of the error: this may be logged, and that may contain anything.
      const name = error instanceof Error ? error.name : typeof error;
      throw Object.assign(new ClientError(`The token function failed: ${name}`), { cause: error });
    } finally {
      clearTimeout(timer);
    }
    if (typeof token !== "string") throw new ClientError(`The token function returned no text but ${typeof token}`);
    // It may be a line of a file.
    if (TOKEN.test(token.trim())) return token.trim();
    throw new ClientError(INVALID_TOKEN);
  }
}

// --- Queues of events -----------------------------------------------------------------------------------------------

const utf8 = new TextEncoder();
const utf8Decoder = new TextDecoder();

/**
 * A stream of chunks that a stage writes: an async iterator. An item has a `type`: `chunk` with `offset` and `data`, the
 * text or the bytes; `gap` with `offset` and `end`, what can no longer be delivered; or `reset`, if another attempt
 * began: what came before is void. Offsets count bytes; of a text, those of its UTF-8. The iteration ends with the
 * stream; then `end` has its `status`, `length` and `sha256`.
 *
 * While the caller handles one item, at most `maxQueuedBytes` wait. Beyond that, the rest is requested later.
 */
class ChunkStream {
  /** @type {{item: any, bytes: number}[]} */ #items = [];
  #bytes = 0;
  #isClosed = false;
  /** @type {(() => void)[]} */ #waiting = [];
  /** The end of the stream; null before it. @type {any} */ end = null;
  /** Why it ended, if it did. @type {Error | null} */ error = null;
  /** Whether the next message of the stream follows on what it has taken. */ isOpen = false;
  /** Whether it takes nothing more of this attempt until half of it is handled. */ isFull = false;

  /**
   * @param {number} offset
   * @param {number | null} attempt
   * @param {number} maxBytes
   * @param {{onRoom: () => void, onReturn: () => void}} callbacks
   */
  constructor(offset, attempt, maxBytes, { onRoom, onReturn }) {
    this.offset = offset;
    this.attempt = attempt;
    this.maxBytes = maxBytes;
    this.onRoom = onRoom;
    this.onReturn = onReturn;
  }

  /** Whether nothing follows for it until the server has answered another `subscribe`. */
  get needsAnswer() {
    return !this.isOpen && !this.isFull && !this.end;
  }

  /**
   * Take what follows: the server has answered which attempt it sends, and from which offset on.
   * @param {{attempt: number, offset: number}} answer
   */
  open({ attempt, offset }) {
    if (this.end) return;
    const known = this.attempt;
    if (known !== null && known !== attempt && (known > 0 || this.offset > 0)) this.#restart(attempt);
    this.attempt = attempt;
    // The `subscribe` may have been sent for other readers of the stream, which are further.
    this.isOpen = !this.isFull && offset <= this.offset;
  }

  /** @param {string} event @param {any} data */
  receive(event, data) {
    if (event === "stream.reset") this.#restart(data.attempt);
    if (!this.isOpen) return;
    // The stage had not started when the server answered.
    this.attempt ||= /** @type {number} */ (data.attempt);
    if (data.attempt !== this.attempt) return;
    if (event === "stream.chunk") this.#take(data);
    else if (event === "stream.gap" && data.offset <= this.offset && this.offset < data.end) {
      this.#add({ type: "gap", offset: this.offset, end: data.end, attempt: data.attempt }, 0);
      this.offset = data.end;
    } else if (event === "stream.closed") {
      this.end = Object.freeze(data);
      this.isOpen = false;
      this.#wake();
    }
  }

  /** @param {Error} error */
  fail(error) {
    this.error = error;
    this.#wake();
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  async next() {
    for (;;) {
      const entry = this.#items.shift();
      if (entry) {
        this.#bytes -= entry.bytes;
        if (this.isFull && this.#bytes <= this.maxBytes / 2) {
          this.isFull = false;
          this.onRoom();
        }
        return { value: entry.item, done: false };
      }
      if (this.error && !(this.error instanceof ClientClosed) && !this.#isClosed) throw this.error;
      if (this.#isClosed || this.end || this.error) return { value: undefined, done: true };
      await new Promise((resolve) => this.#waiting.push(() => resolve(null)));
    }
  }

  /** End the subscription. @returns {Promise<IteratorResult<any, undefined>>} */
  async return() {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#items = [];
      this.onReturn();
      this.#wake();
    }
    return { value: undefined, done: true };
  }

  /** End the subscription, as `return` does. */
  close() {
    void this.return();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {{attempt: number, offset: number, delta?: string, base64?: string}} chunk */
  #take({ attempt, offset, delta, base64 }) {
    const isText = base64 === undefined;
    const bytes = isText ? utf8.encode(delta) : Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
    const end = offset + bytes.length;
    if (offset > this.offset || end <= this.offset) return; // Another reader of the stream needs it.
    const rest = bytes.subarray(this.offset - offset);
    this.#add({ type: "chunk", offset: this.offset, data: isText ? utf8Decoder.decode(rest) : rest, attempt }, rest.length);
    this.offset = end;
  }

  /** Begin another attempt at 0. What waits is void, so a full queue has room again. @param {number} attempt */
  #restart(attempt) {
    if (this.end || this.attempt === null) return;
    this.attempt = attempt;
    this.offset = 0;
    this.#items = [];
    this.#bytes = 0;
    this.isFull = false;
    this.isOpen = true;
    this.#add({ type: "reset", attempt }, 0);
  }

  /** @param {any} item @param {number} bytes */
  #add(item, bytes) {
    this.#items.push({ item: Object.freeze(item), bytes });
    this.#bytes += bytes;
    if (this.#bytes >= this.maxBytes) {
      this.isFull = true;
      this.isOpen = false;
    }
    this.#wake();
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/**
 * The queue between the socket and one reader: an async iterator of events and `HistoryLost`.
 *
 * It is bounded. When it is full, its consumer stops, and resumes from the event log when half of it is free.
 */
class EventStream {
  /** @type {Entry[]} */ #entries = [];
  #head = 0;
  #bytes = 0;
  #isClosed = false;
  /** Why it ended, if it did. @type {Error | null} */ error = null;
  #isErrorThrown = false;
  /** @type {Entry | null} */ #inHand = null;
  /** @type {{resolve: (result: any) => void, reject: (error: Error) => void}[]} */ #waiting = [];
  /** @type {Consumer | null} */ consumer = null;

  /**
   * @param {{maxQueuedEvents: number, maxQueuedBytes: number}} limits Its bounds.
   * @param {() => void} onReturn Called once when its reader ends it.
   */
  constructor(limits, onReturn) {
    this.limits = limits;
    this.onReturn = onReturn;
  }

  get isFull() {
    return this.length >= this.limits.maxQueuedEvents || this.#bytes >= this.limits.maxQueuedBytes;
  }

  get length() {
    return this.#entries.length - this.#head;
  }

  /** @param {Entry} entry */
  push(entry) {
    if (this.#isClosed) return;
    entry.consumer.pending += 1;
    const waiting = this.#waiting.shift();
    if (waiting) {
      this.#markHandled();
      this.#inHand = entry;
      waiting.resolve({ value: entry.item, done: false });
    } else {
      this.#entries.push(entry);
      this.#bytes += entry.bytes;
    }
  }

  /** Return the next item. The item before it counts as handled. @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    this.#markHandled();
    if (this.#head < this.#entries.length) {
      const entry = this.#entries[this.#head++];
      this.#bytes -= entry.bytes;
      if (this.#head === this.#entries.length) {
        this.#entries = [];
        this.#head = 0;
      } else if (this.#head > 1024) {
        this.#entries = this.#entries.slice(this.#head);
        this.#head = 0;
      }
      this.#inHand = entry;
      this.#catchUp();
      return Promise.resolve({ value: entry.item, done: false });
    }
    if (this.#isClosed) return this.#ended();
    this.#catchUp();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** End the subscription. @returns {Promise<IteratorResult<any, undefined>>} */
  return() {
    this.end(null);
    this.#entries = [];
    this.#head = 0;
    return Promise.resolve({ value: undefined, done: true });
  }

  /** End with an error, or without one. What is queued can still be read. @param {Error | null} error */
  end(error) {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.error = error;
    this.onReturn();
    for (const { resolve, reject } of this.#waiting.splice(0)) this.#ended().then(resolve, reject);
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  #ended() {
    if (this.error === null || this.error instanceof ClientClosed || this.#isErrorThrown) {
      return Promise.resolve({ value: undefined, done: true });
    }
    this.#isErrorThrown = true;
    return Promise.reject(this.error);
  }

  /** End the subscription, as `return` does. */
  close() {
    void this.return();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** Consumers resume when half of the queue is free. */
  #catchUp() {
    const { maxQueuedEvents, maxQueuedBytes } = this.limits;
    if (this.length > maxQueuedEvents / 2 || this.#bytes > maxQueuedBytes / 2) return;
    this.consumer?.catchUp();
  }

  #markHandled() {
    const entry = this.#inHand;
    if (!entry) return;
    this.#inHand = null;
    entry.consumer.pending -= 1;
    entry.consumer.handled = { seq: entry.seq, epoch: entry.epoch };
  }
}

/** One reader of a channel: where it is, and whether it receives events. */
class Consumer {
  /** Number of its events that are not handled yet. */
  pending = 0;
  /** Whether it has received every event of the channel after its `seq`. */
  isSynced = false;
  /** Whether its queue was full: it resumes when the queue is empty. */
  isLagging = false;

  /**
   * @param {Channel} channel
   * @param {EventStream} queue
   * @param {Position | null} start The position to resume from; null to start with the next event.
   */
  constructor(channel, queue, start) {
    this.channel = channel;
    this.queue = queue;
    /** @type {number | null} */ this.seq = start?.seq ?? null;
    /** @type {string | null} */ this.epoch = start?.epoch ?? null;
    /** @type {LogPosition | null} */ this.handled = start && { seq: start.seq, epoch: start.epoch };
    queue.consumer = this;
  }

  /** The position up to which all events are handled. */
  get position() {
    if (this.pending > 0 || this.seq === null) return this.handled;
    return { seq: this.seq, epoch: this.epoch };
  }

  /**
   * @param {Event} event
   * @param {number} bytes
   */
  accept(event, bytes) {
    if (!this.isSynced || this.isLagging || event.seq <= /** @type {number} */ (this.seq)) return;
    if (this.queue.isFull) {
      this.isLagging = true;
      this.isSynced = false;
      this.channel.onLagging();
      return;
    }
    if (this.pending === 0) this.handled = { seq: /** @type {number} */ (this.seq), epoch: this.epoch };
    this.seq = event.seq;
    this.queue.push({ item: event, seq: event.seq, epoch: this.epoch, bytes, consumer: this });
  }

  /** Start at a position that is known, if one is. @param {Position | null} head */
  startAt(head) {
    if (!head) return;
    this.seq = head.seq;
    this.epoch = head.epoch;
  }

  /** Continue after `seq`. @param {number} seq @param {string} epoch */
  begin(seq, epoch) {
    this.seq = seq;
    this.epoch = epoch;
    this.isSynced = true;
  }

  /** Continue after a gap. @param {string} reason @param {number} seq @param {string} epoch */
  lose(reason, seq, epoch) {
    this.begin(seq, epoch);
    const item = new HistoryLost(this.channel.name, reason, seq, epoch);
    this.queue.push({ item, seq, epoch, bytes: 0, consumer: this });
  }

  catchUp() {
    if (!this.isLagging) return;
    this.isLagging = false;
    this.channel.requestRound();
  }
}

// --- State for user interfaces --------------------------------------------------------------------------------------

/**
 * The state of one channel. It is subscribed to while it has a listener or an iteration.
 *
 * `subscribe` and `getSnapshot` are what React's `useSyncExternalStore` takes.
 */
class Store {
  /**
   * @param {Client} client
   * @param {string} channelName
   * @param {(state: any) => any} [select] The part of the state whose changes matter; all of it without this.
   */
  constructor(client, channelName, select) {
    this.channel = channelName;
    /** @type {any} */ let shown;
    /** Return the state: undefined until it is known, null if the resource does not exist. */
    this.getSnapshot = () => {
      const view = client._view(channelName);
      if (!select || !view) return view;
      if (!shown || select(view) !== select(shown) || view.isLive !== shown.isLive) shown = view;
      return shown;
    };
    /**
     * Call `listener` after each change, until the returned function is called.
     * @param {() => void} listener
     * @param {(error: Error) => void} [onError] Called instead if the server refuses the channel.
     */
    this.subscribe = (listener, onError) => client._listen(channelName, listener, onError);
  }

  /**
   * Call `callback` with the state now, if it is known, and after each change, until the returned function is called.
   * @param {(state: any) => void} callback
   * @param {(error: Error) => void} [onError] Called instead if the server refuses the channel.
   * @returns {() => void}
   */
  on(callback, onError) {
    /** @type {any} */ let shown;
    const show = () => {
      const view = this.getSnapshot();
      if (view === undefined || view === shown) return;
      shown = view;
      callback(view);
    };
    const stop = this.subscribe(show, onError);
    show();
    return stop;
  }

  /**
   * Iterate over the states, the latest one after each change. It waits until the resource exists, and ends when it is
   * removed.
   */
  [Symbol.asyncIterator]() {
    return new StateStream(this);
  }
}

/** An iteration over the states of a store. A slow reader skips states. */
class StateStream {
  #isChanged = false;
  #isDone = false;
  /** @type {Error | null} */ #error = null;
  /** @type {{resolve: (result: any) => void, reject: (error: Error) => void}[]} */ #waiting = [];
  /** @type {any} */ #seen = undefined;
  /** @type {() => void} */ #stop;

  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.#isChanged = store.getSnapshot() !== undefined;
    this.#stop = store.subscribe(
      () => {
        this.#isChanged = true;
        this.#deliver();
      },
      (error) => {
        if (!(error instanceof ClientClosed)) this.#error = error;
        this.#isDone = true;
        this.#deliver();
      },
    );
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#deliver();
    });
  }

  close() {
    void this.return();
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  return() {
    this.#finish();
    this.#deliver();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #finish() {
    this.#isDone = true;
    this.#isChanged = false;
    this.#stop();
  }

  #deliver() {
    while (this.#waiting.length > 0) {
      if (this.#isChanged) {
        this.#isChanged = false;
        const view = this.store.getSnapshot();
        if (view === null && this.#seen !== undefined) this.#finish();
        if (view === undefined || view === null || view === this.#seen) continue;
        this.#seen = view;
        this.#waiting.shift()?.resolve({ value: view, done: false });
      } else if (this.#error) {
        const error = this.#error;
        this.#error = null;
        this.#waiting.shift()?.reject(error);
      } else if (this.#isDone) {
        this.#waiting.shift()?.resolve({ value: undefined, done: true });
      } else {
        return;
      }
    }
  }
}

// --- Subscriptions --------------------------------------------------------------------------------------------------

/**
 * One channel of the client: its readers, and its state if a store has listeners.
 *
 * Every `subscribe` request is a round: it brings all readers to the same position. From the request to its answer the
 * server delivers nothing, so readers that are up to date keep what they have, and skip it in the replay that follows.
 */
class Channel {
  /** @type {Set<Consumer>} */ consumers = new Set();
  /** @type {Map<() => void, ((error: Error) => void) | undefined>} */ listeners = new Map();
  /** @type {any} */ state = undefined;
  /** The position of the state. @type {number | null} */ stateSeq = null;
  /** @type {string | null} */ stateEpoch = null;
  /** Whether the state has every event of the channel after its position. */
  isStateSynced = false;
  /** Whether the state was that of the server at a time of this connection, and is kept up to date since. */
  #isStateCurrent = false;
  /** The latest position received: a reader that joins starts there. */
  seq = 0;
  /** @type {string | null} */ epoch = null;
  /** Replayed events that are still to come, of `missed`. */
  remaining = 0;
  missed = 0;
  /** The request without an answer. @type {{id: string, since: number | null, epoch: string | null} | null} */
  round = null;
  #isRoundWanted = false;
  #isSnapshotWanted = false;
  #isSnapshotTruncated = false;
  #failures = 0;
  /** @type {any} */ #retryTimer = null;
  /** @type {any} */ #rereadTimer = null;
  /** @type {any} */ #view = undefined;
  #isViewOld = false;
  #wasLive = false;
  /** The place of the state among the readers of a round. */
  #stateReader = {
    /** @type {number | null} */ seq: null,
    /** @type {string | null} */ epoch: null,
  };

  /**
   * @param {Client} client
   * @param {string} name
   */
  constructor(client, name) {
    this.client = client;
    this.name = name;
  }

  get isUsed() {
    return this.consumers.size > 0 || this.listeners.size > 0;
  }

  /** Whether nothing but live events is to come. */
  get isSettled() {
    const isWaiting = this.round !== null || this.#isRoundWanted || this.#retryTimer !== null || this.remaining > 0;
    return this.client._isOpen && !isWaiting;
  }

  get #isLive() {
    return this.#isStateCurrent && this.client._isFresh;
  }

  /** The state with `asOf` and `isLive`; undefined until it is known. */
  get view() {
    if (this.#isViewOld) {
      this.#isViewOld = false;
      this.#view = this.state && Object.freeze({ ...this.state, asOf: this.client._asOf, isLive: this.#isLive });
    }
    return this.#view;
  }

  /** @param {EventStream} queue @param {Position | null} start */
  addConsumer(queue, start) {
    const consumer = new Consumer(this, queue, start);
    const isFollowed = this.isSettled && (this.isStateSynced || [...this.consumers].some((other) => other.isSynced));
    this.consumers.add(consumer);
    if (isFollowed && start === null) consumer.begin(this.seq, /** @type {string} */ (this.epoch));
    else this.requestRound();
    return consumer;
  }

  /** @param {() => void} listener @param {((error: Error) => void) | undefined} onError */
  addListener(listener, onError) {
    this.listeners.set(listener, onError);
    if (this.listeners.size > 1) return;
    // What happened without a listener is not in the state.
    this.stateSeq = null;
    this.requestRound();
  }

  /** The last listener has left: the state is not kept up to date any further. */
  dropState() {
    this.state = this.#view = undefined;
    this.stateSeq = this.stateEpoch = null;
    this.isStateSynced = this.#isStateCurrent = this.#isViewOld = this.#wasLive = this.#isSnapshotWanted = false;
  }

  /** The connection ended. */
  onLost() {
    this.round = null;
    this.#isRoundWanted = false;
    this.clear();
    this.remaining = this.missed = 0;
    this.#isStateCurrent = false;
    this.#unsync();
    this.onLiveness();
  }

  /** Send a `subscribe` request for all readers, now or after the answer to an earlier one. */
  requestRound() {
    this.#isRoundWanted = true;
    this.startRound();
  }

  startRound() {
    if (!this.#isRoundWanted || this.round || this.#retryTimer !== null) return;
    const needsSnapshot = this.listeners.size > 0 && (this.stateSeq === null || this.#isSnapshotWanted);
    const readers = this.#readers();
    if (readers.length === 0 && !needsSnapshot) {
      this.#isRoundWanted = false;
      return;
    }
    if (!this.client._mayStartRound(this)) return;
    this.#isRoundWanted = false;
    const starts = readers.filter((reader) => reader.seq !== null);
    /** @type {{channel: string, since?: number, epoch?: string, snapshot?: boolean}} */
    const data = { channel: this.name };
    if (starts.length > 0) {
      // The readers of another log need another round.
      const { epoch } = starts.find((reader) => reader.epoch !== this.client._epoch) ?? starts[0];
      const served = starts.filter((reader) => reader.epoch === epoch);
      Object.assign(data, { since: Math.min(...served.map((reader) => /** @type {number} */ (reader.seq))), epoch });
    } else if (!needsSnapshot) {
      // No log has this name: nothing is replayed, and the answer has the position from which the channel is live.
      Object.assign(data, { since: 0, epoch: "" });
    }
    if (needsSnapshot) data.snapshot = true;
    const id = this.client._nextId("subscribe");
    this.round = { id, since: starts.length > 0 ? data.since ?? null : null, epoch: data.epoch ?? null };
    this.client._sendRound(this, id, data);
  }

  /** @param {any} data The data of the answer to `subscribe`. */
  onAnswer(data) {
    const { since, epoch } = /** @type {NonNullable<Channel["round"]>} */ (this.round);
    this.round = null;
    this.#failures = 0;
    const isRecovered = since === null || data.recovered === true;
    for (const consumer of this.consumers) {
      if (consumer.isLagging) continue;
      if (consumer.seq === null) consumer.begin(data.seq, data.epoch);
      else if (since === null || consumer.epoch !== epoch || consumer.seq < since) {
        // It joined after the request.
        consumer.isSynced = false;
        this.#isRoundWanted = true;
      } else if (isRecovered) consumer.isSynced = true;
      else if (consumer.seq === since || data.epoch !== epoch) consumer.lose(data.reason, data.seq, data.epoch);
      else {
        consumer.isSynced = false;
        this.#isRoundWanted = true;
      }
    }
    this.seq = data.seq;
    this.epoch = data.epoch;
    this.remaining = this.missed = isRecovered && since !== null ? data.missed : 0;
    let isNew = false;
    if (this.listeners.size > 0) {
      if ("snapshot" in data) {
        this.#isSnapshotWanted = false;
        this.state = decodeState(this.name, data.snapshot);
        this.#isSnapshotTruncated = this.state !== null && this.state.truncated === true;
        this.stateSeq = data.seq;
        this.stateEpoch = data.epoch;
        this.isStateSynced = true;
        isNew = true;
      } else if (isRecovered && since !== null && this.stateSeq !== null && this.stateEpoch === epoch) {
        this.isStateSynced = true;
      } else {
        this.isStateSynced = this.#isStateCurrent = false;
        this.#isSnapshotWanted = this.#isRoundWanted = true;
      }
      if (this.remaining > 0) this.#isStateCurrent = false;
    }
    this.startRound();
    this.onLiveness(isNew);
  }

  /** The server has ended the subscription. @param {string} [reason] */
  onUnsubscribed(reason) {
    const text = `The server has ended the subscription of ${this.name}${reason ? `: ${reason}` : ""}`;
    this.fail(new Forbidden({ error_code: "FORBIDDEN", error_message: text }));
  }

  /** @param {any} message The error that answers `subscribe`. */
  onRefused(message) {
    this.round = null;
    if (!message.retryable) {
      this.fail(failureOf(message));
      return;
    }
    this.#isRoundWanted = true;
    if (message.error_code !== "RATE_LIMIT_EXCEEDED") {
      // The server has ended the subscription, even one that was live.
      this.#isStateCurrent = false;
      this.#unsync();
      this.onLiveness();
    }
    const { firstRetryMs, maxRetryMs } = this.client._options;
    const delayMs = message.retry_after_ms ?? Math.min(firstRetryMs * 2 ** this.#failures++, maxRetryMs);
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = null;
      this.startRound();
    }, delayMs);
  }

  /**
   * @param {Event} event
   * @param {number} bytes
   */
  onEvent(event, bytes) {
    for (const consumer of this.consumers) consumer.accept(event, bytes);
    if (event.seq > this.seq) this.seq = event.seq;
    if (this.isStateSynced && event.seq > /** @type {number} */ (this.stateSeq)) {
      this.stateSeq = event.seq;
      this.#fold(event);
    }
    if (event.replayed && this.remaining > 0 && --this.remaining === 0) this.onLiveness();
  }

  /** Everything of this channel up to `seq` was received. @param {number} seq @param {string} epoch */
  onPosition(seq, epoch) {
    if (!this.isSettled || this.epoch !== epoch) return;
    for (const consumer of this.consumers) {
      if (consumer.isSynced && seq > /** @type {number} */ (consumer.seq)) consumer.seq = seq;
    }
    if (this.isStateSynced && seq > /** @type {number} */ (this.stateSeq)) this.stateSeq = seq;
    if (seq > this.seq) this.seq = seq;
  }

  /** A consumer takes no more events: end the subscription if no other reader takes them. */
  onLagging() {
    if (this.listeners.size > 0 || [...this.consumers].some((consumer) => !consumer.isLagging)) return;
    this.remaining = this.missed = 0;
    this.client._sendUnsubscribe(this);
  }

  /** Notify the listeners if the state is new, has become live, or is no longer. */
  onLiveness(isNew = false) {
    if (this.isStateSynced && this.remaining === 0) this.#isStateCurrent = true;
    if (isNew || this.#isLive !== this.#wasLive) {
      this.#wasLive = this.#isLive;
      this.#changed();
    }
    if (this.isSettled) this.client._checkLive();
  }

  /** End all readers with an error. @param {Error} error */
  fail(error) {
    this.client._forget(this);
    const failed = [...this.listeners];
    this.listeners.clear();
    const report = error instanceof ClientClosed ? null : this.client._options.onError;
    for (const [listener, onError] of failed) {
      // The state is not known any longer: what a page shows is not live.
      this.client._call(listener);
      this.client._call(onError ?? report, error);
    }
    for (const consumer of [...this.consumers]) consumer.queue.end(error);
    this.client._checkLive();
  }

  /** Stop the timers. */
  clear() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#rereadTimer);
    this.#retryTimer = this.#rereadTimer = null;
  }

  /** @returns {{seq: number | null, epoch: string | null}[]} The readers that take part in a round. */
  #readers() {
    /** @type {{seq: number | null, epoch: string | null}[]} */
    const readers = [];
    for (const consumer of this.consumers) {
      if (consumer.isLagging) continue;
      if (consumer.seq === null) consumer.startAt(this.client._head);
      readers.push(consumer);
    }
    // A state that is read anew needs no earlier events.
    if (this.listeners.size > 0 && this.stateSeq !== null && !this.#isSnapshotWanted) {
      this.#stateReader.seq = this.stateSeq;
      this.#stateReader.epoch = this.stateEpoch;
      readers.push(this.#stateReader);
    }
    return readers;
  }

  #unsync() {
    for (const consumer of this.consumers) consumer.isSynced = false;
    this.isStateSynced = false;
  }

  /** @param {Event} event */
  #fold(event) {
    const before = this.state;
    try {
      this.state = fold(this.name, before, event);
    } catch (error) {
      // The event has data of another shape than this version knows.
      this.client._call(this.client._options.onError, error);
      this.#reread();
      return;
    }
    if (this.state === before) return;
    if (this.state !== null && this.state.truncated === true) this.#reread();
    if (this.remaining === 0) this.#changed();
  }

  /** Read a state again that is incomplete: at once, or after a while if that has not helped. */
  #reread() {
    if (this.#isSnapshotWanted || this.#rereadTimer !== null) return;
    const delayMs = this.#isSnapshotTruncated ? this.client._options.rereadAfterMs : 0;
    this.#rereadTimer = setTimeout(() => {
      this.#rereadTimer = null;
      this.#isSnapshotWanted = true;
      this.requestRound();
    }, delayMs);
  }

  #changed() {
    if (this.state === undefined) return;
    this.#isViewOld = true;
    for (const listener of [...this.listeners.keys()]) this.client._call(listener);
  }
}

// --- The client -----------------------------------------------------------------------------------------------------

/**
 * Connect to a server. The client connects in the background, and again whenever the connection ends.
 *
 * @param {string} url Such as `ws://127.0.0.1:8690`; `http` and `https` are replaced by `ws` and `wss`.
 * @param {Partial<ClientOptions>} [options]
 * @returns {Client}
 */
export function connect(url, options) {
  return new Client(url, options);
}

/** A connection to a server that renews itself. Methods that begin with `_` are internal. */
export class Client {
  /** The readers of streams, by channel. @type {Map<string, Set<ChunkStream>>} */
  #streams = new Map();
  /** @type {Map<string, Channel>} */ #channels = new Map();
  /** @type {Map<string, Channel>} */ #rounds = new Map();
  /** @type {Set<Channel>} */ #waitingRounds = new Set();
  /** @type {Map<string, PendingRequest>} */ #requests = new Map();
  /** Requests that wait to be sent again. @type {Set<() => void>} */ #pauses = new Set();
  /** @type {StoredPosition | null} */ #resumeFrom;
  /** @type {Set<string>} */ #resumed = new Set();
  /** @type {Map<string, LogPosition>} */ #keptPositions = new Map();
  /** The latest position of the log that is known. */
  #headSeq = 0;
  #headEpoch = "";
  #headAt = -Infinity;
  /** @type {Map<string, EventStream>} */ #handled = new Map();
  /** @type {Set<{consumer: Consumer, settle: (error: Error | null) => void}>} */ #joining = new Set();
  /** @type {Error | null} */ #lastError = null;
  #lastId = 0;

  /** @type {any} */ #socket = null;
  /** @type {ConnectionState} */ #state = "connecting";
  #isClosed = false;
  /** Why it is closed. @type {ClientError} */ #error = new ClientClosed();
  /** @type {TokenSource} */ #token;
  /** When the server last accepted a token. @type {number | null} */ #acceptedAt = null;
  /** How often it has refused one since. */
  #refusals = 0;
  #hasNewTry = false;
  /** The socket over which a new token is sent. @type {any} */ #refreshed = null;
  #attempt = 0;
  /** The last token that was sent. @type {string | null} */ #lastToken = null;
  #isWelcome = false;
  #isFresh = false;
  #attempts = 0;
  #openedAt = 0;
  /** @type {number | null} */ #slotMs = null;
  /** @type {any} */ #retryTimer = null;
  /** @type {Date | null} */ #retryAt = null;
  #isSlot = false;
  /** @type {any} */ #connectTimer = null;

  /** @type {any} */ #tickTimer = null;
  #tickDueAt = 0;
  #tickWallMs = 0;
  #lastMessageAt = 0;
  #lastMessageMs = 0;
  #clockOffsetMs = 0;
  /** @type {number | null} */ #answerDueAt = null;
  #pingSentAt = 0;
  /** @type {number | null} */ #latencyMs = null;
  #pingAfterMs = DEFAULT_PING_AFTER_MS;

  /** @type {{text: string, request: PendingRequest | null}[]} */ #outgoing = [];
  #tokens = 0;
  #tokensAt = 0;
  #burst = DEFAULT_MESSAGE_BURST;
  #perSecond = DEFAULT_MESSAGES_PER_SECOND;
  /** @type {any} */ #sendTimer = null;

  /** @type {Set<(state: ConnectionState) => void>} */ #stateListeners = new Set();
  /** @type {{resolve: () => void, reject: (error: Error) => void}[]} */ #liveWaiters = [];
  /** @type {() => void} */ #stopPageEvents;

  /**
   * @param {string} url
   * @param {Partial<ClientOptions>} [options]
   */
  constructor(url, options = {}) {
    checkUrlHasNoToken(url);
    this.url = url.replace(/^http/, "ws");
    // The token is in no property, so that no inspection shows it.
    const { token, ...others } = options;
    this.#token = new TokenSource(token);
    /** @type {Omit<ClientOptions, "token">} */
    this._options = {
      onError: reportError,
      WebSocket: globalThis.WebSocket,
      resumeFrom: null,
      wallClock: Date.now,
      ...DEFAULTS,
      ...others,
    };
    if (typeof this._options.WebSocket !== "function") {
      throw new TypeError("This runtime has no WebSocket: use Node.js 22 or newer, or pass the option WebSocket");
    }
    this.#resumeFrom = checkedPosition(this._options.resumeFrom);
    /** The data of the last `session.created`. @type {any} */
    this.server = null;
    // An invalid URL ends here, before there is anything to stop.
    if (this.#token.isFunction) checkUrl(this.url);
    this.#connect();
    this.#stopPageEvents = onPageEvents(() => this.probe());
    this.#scheduleTick();
  }

  // --- State of the connection ---

  /** `connecting`, `live`, `stale`, `offline`, `draining` or `closed`. */
  get state() {
    return this.#state;
  }

  /** When the next attempt to connect is made; null while there is none to wait for. */
  get retryAt() {
    return this.#retryAt;
  }

  /** The time from the last ping to its answer in milliseconds; null before the first one. */
  get latencyMs() {
    return this.#latencyMs;
  }

  /** When the last message came, by the clock of this machine. */
  get asOf() {
    return new Date(this.#lastMessageMs);
  }

  /** How much the server's clock is ahead of this machine's in milliseconds; 0 before the first connection. */
  get clockOffsetMs() {
    return this.#clockOffsetMs;
  }

  /** How many missed events were received, of how many that were missed, in all channels that catch up. */
  get progress() {
    let missed = 0;
    let received = 0;
    for (const channel of this.#channels.values()) {
      if (channel.remaining === 0) continue;
      missed += channel.missed;
      received += channel.missed - channel.remaining;
    }
    return { received, missed };
  }

  /** Why the server last refused or ended a connection; null if it has not. */
  get lastError() {
    return this.#lastError;
  }

  /**
   * The position up to which the events of `events` and `on` are handled; null before the first connection. Store it,
   * and give it to `resumeFrom`. An event is handled when the next one is requested, or when its handler has ended.
   *
   * Every event up to `seq` is handled. `channels` has the exact position of each channel.
   * @returns {StoredPosition | null}
   */
  get position() {
    /** @type {[string, LogPosition][]} */
    const found = [];
    for (const { name, consumers } of this.#channels.values()) {
      for (const { position } of consumers) if (position) found.push([name, position]);
    }
    // A gap that the caller has not seen yet: what is handled belongs to the log before.
    const epoch = found.find(([, position]) => position.epoch !== this.#headEpoch)?.[1].epoch ?? this.#headEpoch;
    if (!epoch) return this.#resumeFrom;
    let seq = epoch === this.#headEpoch ? this.#headSeq : Infinity;
    /** @type {Record<string, number>} */
    const channels = {};
    for (const [name, position] of this.#keptPositions) if (position.epoch === epoch) channels[name] = position.seq;
    for (const [name, position] of found) {
      if (position.epoch !== epoch) continue;
      channels[name] = Math.min(position.seq, channels[name] ?? Infinity);
      seq = Math.min(seq, position.seq);
    }
    return { seq, epoch, channels };
  }

  /**
   * Call `listener` with each new state of the connection, until the returned function is called.
   * @param {(state: ConnectionState) => void} listener
   * @returns {() => void}
   */
  onState(listener) {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  /** Wait until the client is connected and every channel has caught up. @returns {Promise<void>} */
  waitLive() {
    if (this.#isClosed) return Promise.reject(this.#error);
    if (this.#isAllSettled()) return Promise.resolve();
    return new Promise((resolve, reject) => this.#liveWaiters.push({ resolve, reject }));
  }

  /** Find out now whether the server answers: ping it, or connect at once if the client waits to connect. */
  probe() {
    if (this.#isClosed) return;
    if (this.#isWelcome) this.#ping(this._options.probeWithinMs);
    // A slot that the server gave is kept.
    else if (this.#retryTimer !== null && !this.#isSlot) this.#connect();
  }

  /** Close the connection. Iterations end, and unanswered requests fail. @returns {Promise<void>} */
  async close() {
    this.#end(new ClientClosed());
  }

  /** @param {ClientError} error Why. */
  #end(error) {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#error = error;
    this.#isFresh = false;
    this.#stopPageEvents();
    for (const timer of [this.#retryTimer, this.#connectTimer, this.#tickTimer, this.#sendTimer]) clearTimeout(timer);
    this.#retryAt = null;
    const socket = this.#detach();
    for (const id of [...this.#requests.keys()]) this.#takeRequest(id)?.reject(error);
    for (const end of [...this.#pauses]) end();
    for (const channel of [...this.#channels.values()]) channel.fail(error);
    for (const channel of [...this.#streams.keys()]) this.#failStreams(channel, error);
    for (const waiter of this.#liveWaiters.splice(0)) waiter.reject(error);
    this.#setState("closed");
    if (socket && socket.readyState < 2) socket.close(1000);
  }

  // --- Level 1: events ---

  /**
   * Iterate over the events of a channel, each once and in order: all from now on, or all after `resumeFrom`. An item
   * is an `Event`, or a `HistoryLost` where events are missing. Without a position, a few events from just before this
   * call may be among them, with `replayed`.
   *
   * @param {string} channel `global`, `summary`, or `workflow:`, `pool:` or `worker:` and an id.
   * @param {{resumeFrom?: StoredPosition | null}} [options] `resumeFrom`: a stored `client.position`; without it, that
   *   of `connect`, for the first subscription of the channel.
   * @returns {EventStream}
   */
  events(channel, { resumeFrom = null } = {}) {
    if (this.#isClosed) throw this.#error;
    const stored = checkedPosition(resumeFrom) ?? (this.#resumed.has(channel) ? null : this.#resumeFrom);
    if (this.#resumeFrom) this.#resumed.add(channel);
    this.#keptPositions.delete(channel);
    const queue = new EventStream(this._options, () => this.#removeConsumer(consumer));
    const start = stored ? { seq: stored.channels?.[channel] ?? stored.seq, epoch: stored.epoch } : this._head;
    const consumer = this.#channel(channel).addConsumer(queue, start);
    return queue;
  }

  /**
   * Iterate over a stream of chunks that a stage writes, or has written. It is resumed after a reconnect.
   *
   * @param {string} workflowId
   * @param {string} stageName
   * @param {string} name
   * @param {{offset?: number, attempt?: number | null}} [options] `offset`: where to begin, in bytes; `attempt`: the one
   *   that it belongs to.
   * @returns {ChunkStream}
   */
  stream(workflowId, stageName, name, { offset = 0, attempt = null } = {}) {
    if (this.#isClosed) throw this.#error;
    const channel = `stream:${workflowId}/${stageName}/${name}`;
    const streams = this.#streams.get(channel) ?? new Set();
    this.#streams.set(channel, streams);
    const stream = new ChunkStream(offset, attempt, this._options.maxQueuedBytes, {
      onRoom: () => this.#subscribeToStream(channel),
      onReturn: () => {
        streams.delete(stream);
        if (streams.size > 0 || this.#streams.get(channel) !== streams) return;
        this.#streams.delete(channel);
        if (!stream.end) this._sendUnsubscribe({ name: channel });
      },
    });
    streams.add(stream);
    this.#subscribeToStream(channel);
    return stream;
  }

  /** Subscribe for the readers of a stream, from the first of their offsets on. @param {string} channel */
  async #subscribeToStream(channel) {
    if (!this.#isWelcome) return;
    const waiting = [...(this.#streams.get(channel) ?? [])].filter(({ end, isFull }) => !end && !isFull);
    if (waiting.length === 0) return;
    const attempts = waiting.flatMap(({ attempt }) => attempt ?? []);
    const attempt = attempts.length > 0 ? Math.min(...attempts) : undefined;
    const same = waiting.filter((stream) => stream.attempt === null || stream.attempt === attempt);
    const offset = Math.min(...same.map((stream) => stream.offset));
    /** @param {{attempt: number, offset: number}} answer */
    const onAnswer = (answer) => {
      const streams = [...(this.#streams.get(channel) ?? [])];
      for (const stream of streams) stream.open(answer);
      if (streams.some((stream) => stream.needsAnswer)) void this.#subscribeToStream(channel);
    };
    try {
      const { requestTimeoutMs } = this._options;
      await this.#requestOnce("subscribe", { channel, offset, attempt }, requestTimeoutMs, { onAnswer });
    } catch (error) {
      if (this.#isClosed || error instanceof ConnectionLost) return;
      if (!(error instanceof RequestFailed) || error.retryable) {
        const pauseMs = (error instanceof RequestFailed && error.retryAfterMs) || STREAM_RETRY_MS;
        setTimeout(() => void this.#subscribeToStream(channel), pauseMs);
      } else this.#failStreams(channel, error);
    }
  }

  /** @param {string} channel @param {Error} error */
  #failStreams(channel, error) {
    for (const stream of this.#streams.get(channel) ?? []) stream.fail(error);
    this.#streams.delete(channel);
  }

  /**
   * Call `handler` with each item of a channel, until the returned function is called. If it returns a promise, the
   * next item waits for it. It may use the client. Its errors go to the option `onError`, and the next item follows.
   *
   * @param {string} channel
   * @param {(item: Event | HistoryLost) => unknown} handler
   * @param {{resumeFrom?: StoredPosition | null}} [options]
   * @returns {() => void}
   */
  on(channel, handler, options) {
    const stream = this.events(channel, options);
    this.#handle(stream, handler);
    return () => stream.close();
  }

  /**
   * Subscribe to a channel.
   *
   * @param {string} channel
   * @param {(item: Event | HistoryLost) => unknown} [handler] Called as by `on`.
   * @returns {Promise<EventStream>} The iterator of its events, once the server has confirmed.
   * @throws {RequestFailed} if the server rejects the channel.
   */
  async subscribeToChannel(channel, handler) {
    const stream = this.events(channel);
    await this.#joined(/** @type {Consumer} */ (stream.consumer));
    if (handler) {
      await this.unsubscribeFromChannel(channel);
      this.#handled.set(channel, stream);
      this.#handle(stream, handler);
    }
    return stream;
  }

  /** End the handler of `subscribeToChannel`. @param {string} channel */
  async unsubscribeFromChannel(channel) {
    const stream = this.#handled.get(channel);
    this.#handled.delete(channel);
    stream?.close();
  }

  /** @param {EventStream} stream @param {(item: Event | HistoryLost) => unknown} handler */
  async #handle(stream, handler) {
    try {
      for await (const item of stream) {
        if (this.#isClosed) return;
        try {
          await handler(item);
        } catch (error) {
          this._call(this._options.onError, error);
        }
      }
    } catch (error) {
      this._call(this._options.onError, error);
    }
  }

  /** @param {Consumer} consumer @returns {Promise<void>} */
  #joined(consumer) {
    if (consumer.isSynced) return Promise.resolve();
    return new Promise((resolve, reject) => {
      /** @param {Error | null} error */
      const settle = (error) => {
        clearTimeout(timer);
        this.#joining.delete(joining);
        if (error) reject(error);
        else resolve();
      };
      const joining = { consumer, settle };
      const timer = setTimeout(() => {
        settle(new ConnectionLost("No answer to subscribe in time", this.#isWelcome));
        consumer.queue.close();
      }, this._options.requestTimeoutMs);
      this.#joining.add(joining);
    });
  }

  // --- Level 2: requests ---

  /**
   * Send any request, and return the data of its answer. One that the server limits is sent again after the time that
   * the server gives.
   *
   * @param {string} name
   * @param {object} [data]
   * @param {{timeoutMs?: number}} [options]
   * @returns {Promise<any>}
   * @throws {RequestFailed} if the server answers with an error.
   * @throws {ConnectionLost} if the connection ends first, or there is none in time.
   * @throws {RequestTimeout} if the server does not answer in time.
   */
  async request(name, data = {}, { timeoutMs = this._options.requestTimeoutMs } = {}) {
    const deadline = monotonicMs() + timeoutMs;
    for (;;) {
      try {
        return await this.#requestOnce(name, data, Math.max(0, deadline - monotonicMs()));
      } catch (error) {
        const pauseMs = error instanceof RequestFailed ? error.retryAfterMs : null;
        if (pauseMs === null || monotonicMs() + pauseMs >= deadline) throw error;
        await this.#pause(pauseMs);
      }
    }
  }

  /** Wait, or fail at once if the client is closed. @param {number} pauseMs @returns {Promise<void>} */
  #pause(pauseMs) {
    if (this.#isClosed) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        if (this.#isClosed) reject(this.#error);
        else resolve();
      };
      const timer = setTimeout(end, pauseMs);
      this.#pauses.add(end);
    });
  }

  /**
   * @param {string} name
   * @param {object} data
   * @param {number} timeoutMs
   * @param {{isForThisConnection?: boolean, onAnswer?: (data: any) => void}} [options] `isForThisConnection`: whether it
   *   is not sent over the next one; `onAnswer`: called before the message after the answer is handled.
   * @returns {Promise<any>}
   */
  #requestOnce(name, data, timeoutMs, { isForThisConnection = false, onAnswer = () => {} } = {}) {
    if (this.#isClosed) return Promise.reject(this.#error);
    const { maxPendingRequests } = this._options;
    if (this.#requests.size >= maxPendingRequests) {
      return Promise.reject(new ClientError(`${maxPendingRequests} requests are not answered yet: wait for one first`));
    }
    const id = this._nextId(name);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const { sent } = /** @type {PendingRequest} */ (this.#takeRequest(id));
        const within = `within ${Math.round(timeoutMs)} ms`;
        if (sent) reject(new RequestTimeout(`No answer to ${name} ${within}`));
        else reject(new ConnectionLost(`No connection for ${name} ${within}`, false));
      }, timeoutMs);
      const text = JSON.stringify({ type: "request", event: name, data, id });
      const request = { text, sent: isForThisConnection, timer, onAnswer, resolve, reject };
      this.#requests.set(id, request);
      if (this.#isWelcome) this.#send(text, request);
    });
  }

  /** @param {string} workflowId */
  getWorkflowStatus(workflowId) {
    return this.request("get_workflow_status", { workflow_id: workflowId });
  }

  /** @param {string} workflowId */
  getWorkflow(workflowId) {
    return this.request("get_workflow", { workflow_id: workflowId });
  }

  /** The whole result of a stage or an item. @param {string} workflowId @param {string} stageName */
  getStageResult(workflowId, stageName) {
    return this.request("get_stage_result", { workflow_id: workflowId, stage_name: stageName });
  }

  /** @param {string} poolId */
  getPoolStatus(poolId) {
    return this.request("get_pool_status", { pool_id: poolId });
  }

  /** @param {string} poolId @param {object} [options] */
  getPoolHistory(poolId, options) {
    return this.request("get_pool_history", { pool_id: poolId, ...options });
  }

  getServerStatus() {
    return this.request("get_server_status");
  }

  listDefinitions() {
    return this.request("list_definitions");
  }

  /** @param {string} channel @param {object} [options] */
  listEvents(channel, options) {
    return this.request("list_events", { channel, ...options });
  }

  /** @param {object} [options] */
  listPools(options) {
    return this.request("list_pools", { ...options });
  }

  /** @param {string} workflowId @param {object} [options] */
  listStages(workflowId, options) {
    return this.request("list_stages", { workflow_id: workflowId, ...options });
  }

  /** @param {object} [options] */
  listWaits(options) {
    return this.request("list_waits", { ...options });
  }

  /** @param {object} [options] */
  listWorkers(options) {
    return this.request("list_workers", { ...options });
  }

  /** @param {object} [options] */
  listWorkflows(options) {
    return this.request("list_workflows", { ...options });
  }

  // --- Level 3: state ---

  /**
   * Iterate over the states of a run: the latest one after each change, with `asOf` and `isLive`. It waits until the
   * run exists, and ends when the run is removed.
   * @param {string} workflowId
   * @returns {StateStream}
   */
  follow(workflowId) {
    return new StateStream(this.workflow(workflowId));
  }

  /** The state of a run. @param {string} workflowId @returns {any} */
  workflow(workflowId) {
    return new Store(this, `workflow:${workflowId}`);
  }

  /** The state of a pool with its workers. @param {string} poolId @returns {any} */
  pool(poolId) {
    return new Store(this, `pool:${poolId}`);
  }

  /** The state of a worker. @param {string} workerId @returns {any} */
  worker(workerId) {
    return new Store(this, `worker:${workerId}`);
  }

  /** The unfinished runs and the pools. @returns {any} */
  overview() {
    return new Store(this, "summary");
  }

  /** The same as `overview`, for changes of the pools only. @returns {any} */
  pools() {
    return new Store(this, "summary", ({ pools }) => pools);
  }

  // --- Used by the other classes ---

  get _isOpen() {
    return this.#isWelcome;
  }

  get _isFresh() {
    return this.#isFresh;
  }

  get _asOf() {
    return this.asOf;
  }

  /** The log of this connection. */
  get _epoch() {
    return this.server?.epoch ?? "";
  }

  /** The latest position of the log, if one is known that is not too old. @returns {Position | null} */
  get _head() {
    if (!this.#headEpoch || monotonicMs() - this.#headAt > HEAD_VALID_MS) return null;
    return { seq: this.#headSeq, epoch: this.#headEpoch };
  }

  /** @param {string} event */
  _nextId(event) {
    return `${event}-${++this.#lastId}`;
  }

  /** Call a function of the user; its errors go to `onError`. @param {any} callback @param {...any} values */
  _call(callback, ...values) {
    try {
      callback?.(...values);
    } catch (error) {
      this._report(/** @type {Error} */ (error));
    }
  }

  /** @param {Error} error */
  _report(error) {
    try {
      this._options.onError(error);
    } catch (another) {
      reportError(another);
    }
  }

  /** @param {string} name */
  _view(name) {
    return this.#channels.get(name)?.view;
  }

  /** @param {string} name @param {() => void} listener @param {((error: Error) => void) | undefined} onError */
  _listen(name, listener, onError) {
    if (this.#isClosed) throw this.#error;
    const channel = this.#channel(name);
    // The same function may listen twice.
    const own = () => listener();
    channel.addListener(own, onError);
    return () => {
      channel.listeners.delete(own);
      this.#releaseSoon(channel);
    };
  }

  /** @param {Channel} channel */
  _mayStartRound(channel) {
    if (!this.#isWelcome) return false;
    if (this.#rounds.size < MAX_SUBSCRIBES_IN_FLIGHT) return true;
    this.#waitingRounds.add(channel);
    return false;
  }

  /** @param {Channel} channel @param {string} id @param {object} data */
  _sendRound(channel, id, data) {
    this.#rounds.set(id, channel);
    this.#send(JSON.stringify({ type: "request", event: "subscribe", data, id }), null);
  }

  /** @param {{name: string}} channel */
  _sendUnsubscribe({ name }) {
    if (!this.#isWelcome) return;
    const id = this._nextId("unsubscribe");
    this.#send(JSON.stringify({ type: "request", event: "unsubscribe", data: { channel: name }, id }), null);
  }

  /** @param {Channel} channel */
  _forget(channel) {
    if (this.#channels.get(channel.name) === channel) this.#channels.delete(channel.name);
    this.#waitingRounds.delete(channel);
    if (channel.round) this.#rounds.delete(channel.round.id);
    channel.clear();
    if (this.#isWelcome) this.#startWaitingRounds();
  }

  _checkLive() {
    for (const { consumer, settle } of [...this.#joining]) {
      if (consumer.isSynced) settle(null);
    }
    if (this.#state !== "connecting" && this.#liveWaiters.length === 0) return;
    if (!this.#isAllSettled()) return;
    if (this.#state === "connecting") this.#setState("live");
    for (const waiter of this.#liveWaiters.splice(0)) waiter.resolve();
  }

  #isAllSettled() {
    if (!this.#isWelcome || !this.#isFresh) return false;
    for (const channel of this.#channels.values()) if (channel.isUsed && !channel.isSettled) return false;
    return true;
  }

  // --- Channels ---

  /** @param {string} name */
  #channel(name) {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = new Channel(this, name);
      this.#channels.set(name, channel);
    }
    return channel;
  }

  /** @param {Consumer} consumer */
  #removeConsumer(consumer) {
    const { channel, position } = consumer;
    if (!channel.consumers.delete(consumer)) return;
    const error = consumer.queue.error ?? new ConnectionLost("The subscription was ended", this.#isWelcome);
    for (const joining of [...this.#joining]) if (joining.consumer === consumer) joining.settle(error);
    if (position && channel.consumers.size === 0) {
      this.#keptPositions.set(channel.name, position);
      if (this.#keptPositions.size > MAX_KEPT_POSITIONS) {
        this.#keptPositions.delete(/** @type {string} */ (this.#keptPositions.keys().next().value));
      }
    }
    this.#releaseSoon(channel);
  }

  /** Unsubscribe from a channel without readers; not from one that is read again at once. @param {Channel} channel */
  #releaseSoon(channel) {
    queueMicrotask(() => {
      if (channel.listeners.size === 0) channel.dropState();
      if (channel.isUsed || this.#channels.get(channel.name) !== channel) return;
      this._forget(channel);
      this._sendUnsubscribe(channel);
      this._checkLive();
    });
  }

  // --- The connection ---

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#retryAt = null;
    this.#isSlot = false;
    this.#slotMs = null;
    const attempt = ++this.#attempt;
    if (!this.#token.isFunction) {
      this.#open(this.#token.text);
      return;
    }
    const isCurrent = () => attempt === this.#attempt && !this.#isClosed;
    this.#token
      .fetch(this._options.requestTimeoutMs)
      .then((token) => isCurrent() && this.#open(token))
      .catch((error) => {
        if (!isCurrent()) return;
        this.#lastError = error;
        this._report(error);
        this.#lost(1006);
      });
  }

  /** @param {string | null} token */
  #open(token) {
    const { WebSocket, openTimeoutMs, pingAfterMs, pongWithinMs } = this._options;
    const socket =
      token === null ? new WebSocket(this.url) : new WebSocket(this.url, [SUBPROTOCOL, TOKEN_PREFIX + token]);
    this.#socket = socket;
    this.#lastToken = token;
    socket.onopen = () => {
      // A server that waits for a token sends its error before this.
      clearTimeout(this.#connectTimer);
      const withinMs = (pingAfterMs ?? DEFAULT_PING_AFTER_MS) + pongWithinMs;
      this.#connectTimer = setTimeout(() => this.#drop(), withinMs);
    };
    socket.onmessage = (/** @type {any} */ { data }) => this.#receive(data);
    socket.onclose = (/** @type {any} */ { code }) => this.#lost(code);
    // A close follows each error.
    socket.onerror = () => {};
    this.#connectTimer = setTimeout(() => this.#drop(), openTimeoutMs);
  }

  /** Give up the socket without waiting for the server. @param {number} [code] */
  #drop(code = 1006) {
    const socket = this.#detach();
    socket?.close();
    this.#lost(code);
  }

  #detach() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    return socket;
  }

  /** @param {number} code The close code. */
  #lost(code) {
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#sendTimer);
    this.#sendTimer = null;
    this.#detach();
    const wasOpen = this.#isWelcome;
    this.#isWelcome = this.#isFresh = false;
    this.#answerDueAt = null;
    this.#outgoing = [];
    this.#rounds.clear();
    this.#waitingRounds.clear();
    for (const [id, { sent }] of [...this.#requests]) {
      if (sent) this.#takeRequest(id)?.reject(new ConnectionLost("The connection ended before the answer", true));
    }
    for (const channel of [...this.#channels.values()]) channel.onLost();
    if (wasOpen && monotonicMs() - this.#openedAt >= this._options.stableAfterMs) this.#attempts = 0;
    const isPlanned = wasOpen && (this.#state === "draining" || this.#state === "stale");
    if (!isPlanned) this.#setState("offline");
    this.#scheduleConnect(code);
  }

  /** @param {number} code The close code of the connection before. */
  #scheduleConnect(code) {
    const { firstRetryMs, maxRetryMs } = this._options;
    if (this.#hasNewTry) {
      this.#hasNewTry = false;
      this.#connect();
      return;
    }
    const attempt = this.#attempts++;
    /** @param {number} doublings */
    const longestMs = (doublings) => Math.min(firstRetryMs * 2 ** doublings, maxRetryMs);
    this.#isSlot = this.#slotMs !== null;
    let delayMs = 0;
    if (this.#slotMs !== null) delayMs = this.#slotMs;
    // At least half of it: a random part near 0 would be no pause.
    else if (!AT_ONCE_CODES.has(code)) delayMs = (longestMs(attempt) * (1 + Math.random())) / 2;
    else if (attempt > 0) delayMs = longestMs(attempt - 1) * Math.random();
    this.#retryAt = new Date(Date.now() + delayMs);
    this.#retryTimer = setTimeout(() => this.#connect(), delayMs);
  }

  /** @param {unknown} text */
  #receive(text) {
    this.#lastMessageAt = monotonicMs();
    this.#lastMessageMs = this._options.wallClock();
    this.#answerDueAt = null;
    // Only the last message says when to connect again.
    this.#slotMs = null;
    try {
      this.#onMessage(JSON.parse(/** @type {string} */ (text)), /** @type {string} */ (text).length);
    } catch (error) {
      // An event may be lost: it comes again over the next connection.
      this.#lastError = new ProtocolError(`The server sent an invalid message: ${error}`);
      this._report(this.#lastError);
      this.#drop(INVALID_MESSAGE);
    }
  }

  /** @param {any} message @param {number} length */
  #onMessage(message, length) {
    if (typeof message?.type !== "string") throw new TypeError("it has no type");
    if (message.seq !== undefined && message.room !== undefined) {
      if (!Number.isInteger(message.seq) || !isObject(message.data)) throw new TypeError("it is no event");
      this.#onEvent(message, length);
    } else if (message.type === "response") {
      this.#onAnswer(message);
    } else if (message.type === "error") {
      this.#onError(message);
    } else if (message.type === "pong") {
      this.#latencyMs = monotonicMs() - this.#pingSentAt;
      this.#onPosition(message.data);
    } else if (message.event === "session.created") {
      const serverMs = Date.parse(message.timestamp);
      if (Number.isFinite(serverMs)) this.#clockOffsetMs = serverMs - this.#lastMessageMs;
      this.#onWelcome(message.data);
    } else if (message.event === "session.position") {
      this.#onPosition(message.data);
    } else if (message.event === "session.draining") {
      this.#slotMs = message.data?.retry_after_ms ?? null;
      this.#setState("draining");
    } else if (message.event === "session.expiring") {
      void this.#refresh();
    } else if (message.event === "session.unsubscribed") {
      const { channel, reason } = message.data;
      this.#channels.get(channel)?.onUnsubscribed(reason);
      this.#failStreams(channel, new Forbidden({ error_code: "FORBIDDEN", error_message: `${channel}: ${reason}` }));
    } else if (message.room !== undefined && typeof message.event === "string") {
      for (const stream of this.#streams.get(message.room) ?? []) stream.receive(message.event, message.data);
    }
  }

  /** @param {any} message @param {number} bytes */
  #onEvent(message, bytes) {
    const channel = this.#channels.get(message.room);
    if (!channel) return;
    const { seq, event: name, data, timestamp, room, id } = message;
    if (channel.epoch) this.#onHead(seq, channel.epoch);
    channel.onEvent(Object.freeze({ seq, name, data, timestamp, room, id, replayed: message.replay === true }), bytes);
  }

  /** @param {any} message */
  #onAnswer(message) {
    const id = message.correlation_id;
    const channel = this.#takeRound(id);
    if (channel) {
      this.#onHead(message.data.seq, message.data.epoch);
      channel.onAnswer(message.data);
      return;
    }
    const request = this.#takeRequest(id);
    request?.onAnswer(message.data);
    request?.resolve(message.data);
  }

  /** @param {any} message */
  #onError(message) {
    if (AUTHENTICATION_CODES.has(message.error_code)) {
      this.#onTokenRefused(new AuthenticationError(message));
      return;
    }
    const id = message.correlation_id;
    const channel = this.#takeRound(id);
    if (channel) {
      channel.onRefused(message);
      return;
    }
    const request = this.#takeRequest(id);
    if (request) request.reject(failureOf(message));
    if (id !== undefined) return;
    this.#lastError = failureOf(message);
    if (message.retry_after_ms !== undefined) this.#slotMs = message.retry_after_ms;
    if (message.error_code === "RATE_LIMIT_EXCEEDED") this.#onThrottled(message);
  }

  /** Try once more with a new token, if the user gave a function; else end. @param {AuthenticationError} error */
  #onTokenRefused(error) {
    this.#lastError = error;
    const { stableAfterMs } = this._options;
    if (this.#acceptedAt !== null && monotonicMs() - this.#acceptedAt >= stableAfterMs) this.#refusals = 0;
    this.#acceptedAt = null;
    this.#refusals += 1;
    this.#hasNewTry = this.#token.isFunction && this.#refusals === 1;
    if (this.#hasNewTry) this.#drop(1008);
    else this.#end(error);
  }

  /** Send a new token over this connection, if the user gave a function. */
  async #refresh() {
    const socket = this.#socket;
    if (!this.#token.isFunction || this.#refreshed === socket) return;
    this.#refreshed = socket;
    const { firstRetryMs, maxRetryMs, requestTimeoutMs } = this._options;
    const isCurrent = () => this.#socket === socket && !this.#isClosed;
    for (let failures = 0; isCurrent(); failures += 1) {
      /** @type {number | null} */ let retryAfterMs = null;
      try {
        const token = await this.#token.fetch(requestTimeoutMs);
        // Otherwise there is no new one yet.
        if (isCurrent() && token !== this.#lastToken) {
          await this.#requestOnce("refresh_token", { token }, requestTimeoutMs, { isForThisConnection: true });
          this.#lastToken = token;
          break;
        }
      } catch (error) {
        if (!isCurrent()) break;
        this._report(/** @type {Error} */ (error));
        if (error instanceof RequestFailed && !error.retryable) break;
        if (error instanceof RequestFailed) retryAfterMs = error.retryAfterMs;
      }
      await this.#pause(retryAfterMs ?? Math.min(firstRetryMs * 2 ** failures, maxRetryMs)).catch(() => {});
    }
    if (this.#refreshed === socket) this.#refreshed = null;
  }

  /**
   * A message was discarded, or the connection will be closed for too many. The server does not say which message it
   * was, and every request may be repeated: all unanswered ones are sent again after the pause.
   * @param {any} message
   */
  #onThrottled(message) {
    this.#outgoing = [];
    this.#tokens = 0;
    this.#tokensAt = monotonicMs() + (message.retry_after_ms ?? this._options.firstRetryMs);
    const channels = [...this.#rounds.values()];
    this.#rounds.clear();
    for (const channel of channels) channel.onRefused({ ...message, retryable: true });
    for (const request of this.#requests.values()) this.#send(request.text, request);
  }

  /** @param {string} id */
  #takeRound(id) {
    const channel = this.#rounds.get(id);
    if (!channel) return undefined;
    this.#rounds.delete(id);
    this.#startWaitingRounds();
    return channel;
  }

  #startWaitingRounds() {
    for (const channel of this.#waitingRounds) {
      if (this.#rounds.size >= MAX_SUBSCRIBES_IN_FLIGHT) return;
      this.#waitingRounds.delete(channel);
      channel.startRound();
    }
  }

  /** @param {string} id */
  #takeRequest(id) {
    const request = this.#requests.get(id);
    if (request) clearTimeout(request.timer);
    this.#requests.delete(id);
    return request;
  }

  /** @param {any} data */
  #onWelcome(data) {
    clearTimeout(this.#connectTimer);
    this.server = Object.freeze(data);
    this.#isWelcome = this.#isFresh = true;
    this.#openedAt = this.#acceptedAt = monotonicMs();
    this.#slotMs = null;
    this.#onHead(data.seq, data.epoch);
    this.#pingAfterMs = this._options.pingAfterMs ?? data.ping_after_ms ?? DEFAULT_PING_AFTER_MS;
    this.#perSecond = (data.limits?.max_messages_per_second ?? DEFAULT_MESSAGES_PER_SECOND) * USED_SHARE_OF_LIMIT;
    this.#burst = Math.max(1, (data.limits?.max_message_burst ?? DEFAULT_MESSAGE_BURST) * USED_SHARE_OF_LIMIT);
    this.#tokens = this.#burst;
    this.#tokensAt = this.#openedAt;
    this.#setState("connecting");
    for (const request of this.#requests.values()) this.#send(request.text, request);
    for (const channel of [...this.#channels.values()]) channel.requestRound();
    for (const channel of this.#streams.keys()) void this.#subscribeToStream(channel);
    this.#scheduleTick();
    this._checkLive();
  }

  /** @param {{seq?: number, epoch?: string}} data */
  #onPosition({ seq, epoch } = {}) {
    if (seq === undefined || epoch === undefined) return;
    this.#onHead(seq, epoch);
    for (const channel of this.#channels.values()) channel.onPosition(seq, epoch);
  }

  /** @param {number} seq @param {string} epoch */
  #onHead(seq, epoch) {
    if (!Number.isInteger(seq) || typeof epoch !== "string") throw new TypeError("it has no position");
    if (epoch !== this.#headEpoch) this.#headSeq = 0;
    this.#headEpoch = epoch;
    this.#headSeq = Math.max(this.#headSeq, seq);
    this.#headAt = monotonicMs();
  }

  // --- Sending ---

  /** @param {string} text @param {PendingRequest | null} request */
  #send(text, request) {
    this.#outgoing.push({ text, request });
    this.#flush();
  }

  /** Send what the server's limit of messages allows, and the rest later. */
  #flush() {
    if (this.#sendTimer !== null || this.#socket === null) return;
    const now = monotonicMs();
    if (now > this.#tokensAt) {
      this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#tokensAt) / 1000) * this.#perSecond);
      this.#tokensAt = now;
    }
    let sent = 0;
    for (const { text, request } of this.#outgoing) {
      if (this.#tokens < 1 || this.#tokensAt > now) break;
      this.#tokens -= 1;
      sent += 1;
      if (request) request.sent = true;
      this.#socket.send(text);
    }
    this.#outgoing.splice(0, sent);
    if (this.#outgoing.length === 0) return;
    const waitMs = Math.max(0, this.#tokensAt - now) + ((1 - this.#tokens) / this.#perSecond) * 1000;
    this.#sendTimer = setTimeout(() => {
      this.#sendTimer = null;
      this.#flush();
    }, waitMs);
  }

  // --- Silence ---

  /** @param {number} timeoutMs */
  #ping(timeoutMs) {
    const now = monotonicMs();
    if (this.#answerDueAt !== null && this.#answerDueAt <= now + timeoutMs) return;
    this.#answerDueAt = now + timeoutMs;
    this.#pingSentAt = now;
    // Ahead of what waits for the server's limit.
    this.#tokens -= 1;
    this.#socket.send(JSON.stringify({ type: "ping", id: this._nextId("ping") }));
    this.#scheduleTick();
  }

  #scheduleTick() {
    clearTimeout(this.#tickTimer);
    const now = monotonicMs();
    let dueAt = now + MAX_TICK_MS;
    if (this.#isWelcome) dueAt = Math.min(dueAt, this.#answerDueAt ?? this.#lastMessageAt + this.#pingAfterMs);
    this.#tickDueAt = Math.max(dueAt, now);
    this.#tickWallMs = this._options.wallClock();
    this.#tickTimer = setTimeout(() => this.#tick(now), this.#tickDueAt - now);
  }

  /** @param {number} scheduledAt */
  #tick(scheduledAt) {
    const now = monotonicMs();
    // A clock that stops while the machine sleeps, and one that is set, both differ from the other one. A timer that
    // is late on both was suspended.
    const wallMs = this._options.wallClock() - this.#tickWallMs;
    const isJump = Math.abs(wallMs - (this.#tickDueAt - scheduledAt)) > this._options.clockJumpMs;
    const isLate = now - this.#tickDueAt > LATE_TIMER_MS;
    if (isJump || (isLate && this.#answerDueAt !== null)) {
      this.#answerDueAt = null;
      this.probe();
    } else if (this.#answerDueAt !== null && now >= this.#answerDueAt) {
      this.#setStale();
    } else if (this.#isWelcome && now - this.#lastMessageAt >= this.#pingAfterMs) {
      this.#ping(this._options.pongWithinMs);
    }
    if (!this.#isClosed) this.#scheduleTick();
  }

  /** The server does not answer: replace the connection. */
  #setStale() {
    this.#isFresh = false;
    this.#setState("stale");
    this.#drop();
  }

  /** @param {ConnectionState} state */
  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of [...this.#stateListeners]) this._call(listener, state);
  }
}

if (Symbol.asyncDispose) {
  // Not a method of the class: older browsers lack this symbol.
  Object.defineProperty(Client.prototype, Symbol.asyncDispose, {
    value: /** @this {Client} */ function () {
      return this.close();
    },
  });
}

/** Check a URL before there is a WebSocket that does it. @param {string} url */
function checkUrl(url) {
  const { protocol } = new URL(url, globalThis.location?.href);
  if (protocol !== "ws:" && protocol !== "wss:") throw new TypeError("Invalid URL: expected ws:// or wss://");
}

/** @param {unknown} error */
function reportError(error) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else console.error(error);
}

/**
 * Call `probe` when a page becomes visible, is shown or resumed again, or its machine is online again.
 * @param {() => void} probe
 */
function onPageEvents(probe) {
  if (typeof globalThis.addEventListener !== "function" || typeof document === "undefined") return () => {};
  const onVisible = () => {
    if (document.visibilityState === "visible") probe();
  };
  /** @type {[EventTarget, string, () => void][]} */
  const events = [
    [globalThis, "online", probe],
    [globalThis, "pageshow", probe],
    [document, "visibilitychange", onVisible],
    [document, "resume", probe],
  ];
  for (const [target, name, listener] of events) target.addEventListener(name, listener);
  return () => {
    for (const [target, name, listener] of events) target.removeEventListener(name, listener);
  };
}

// --- The fold -------------------------------------------------------------------------------------------------------
//
// A snapshot, folded with every later event of its channel, equals the next snapshot. The functions below are pure:
// they return new frozen objects, which share their unchanged parts with the ones before.

/** @typedef {Record<string, any>} Data */
/** @typedef {(state: any, data: Data) => any} Change */

/** The most runs, and the most pools, in an overview. */
const MAX_OVERVIEW_ROWS = 100;

const FINISHED_STAGE_STATUSES = new Set(["completed", "failed", "skipped", "cancelled"]);

/** What a state has before the first event of its resource. */
const CREATING_EVENTS = new Set(["workflow.created", "pool.created", "worker.added"]);

/**
 * The state of a run has long values that an event may have cut. What the folds of these events use is never cut: only
 * the results and the messages of stages are.
 */
const COMPLETE_WHEN_CUT = new Set(["workflow.stage_completed", "workflow.stage_log"]);

const NO_METRICS = Object.freeze({
  active_workers: 0,
  idle_workers: 0,
  queue_size: 0,
  tasks_completed: 0,
  tasks_failed: 0,
  tasks_running: 0,
  worker_count: 0,
  error_workers: 0,
});

/**
 * Return the state in a snapshot of a channel; null if the snapshot is null. The snapshot is frozen.
 *
 * @param {string} channel
 * @param {any} snapshot
 * @returns {State | null}
 */
export function decodeState(channel, snapshot) {
  if (snapshot === null || typeof snapshot === "object") return deepFreeze(snapshot);
  throw new TypeError(`The snapshot of ${channel} is no object`);
}

/**
 * Return the state of a channel after an event: `state` itself if the event changes nothing. An event that is unknown,
 * that is about another resource, or that `emit_test_event` has sent, changes nothing. If what a run has of it is
 * truncated, the new state is `truncated`: read it again.
 *
 * @param {string} channel
 * @param {any} state The state before; null if the resource does not exist, or if the state is not known.
 * @param {{name: string, data: Data}} event
 * @returns {any}
 */
export function fold(channel, state, event) {
  const { name, data } = event;
  const colon = channel.indexOf(":");
  const kind = colon < 0 ? channel : channel.slice(0, colon);
  const change = FOLDS.get(kind)?.get(name);
  if (!change || data.test === true) return state;
  if (state === null && (colon < 0 || !CREATING_EVENTS.has(name))) return state;
  if (colon >= 0) {
    const id = channel.slice(colon + 1);
    if (data[`${kind}_id`] !== id && !(name === "worker.moved" && data.from_pool_id === id)) return state;
  }
  const after = change(state, data);
  if (data.truncated !== true || kind !== "workflow" || after === null || COMPLETE_WHEN_CUT.has(name)) return after;
  return withChanges(after, { truncated: true });
}

/**
 * @template T
 * @param {T} value
 * @returns {T}
 */
function deepFreeze(value) {
  if (value !== null && typeof value === "object" && !Object.isFrozen(value)) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}

/**
 * @param {any} state
 * @param {Data} changes
 * @returns {any}
 */
const withChanges = (state, changes) => Object.freeze({ ...state, ...changes });

/** @param {readonly any[]} list @param {number} index @param {any} item */
function replaced(list, index, item) {
  const next = list.slice();
  next[index] = item;
  return Object.freeze(next);
}

/** @param {readonly any[]} list @param {number} index @param {any} item */
function inserted(list, index, item) {
  const next = list.slice();
  next.splice(index, 0, item);
  return Object.freeze(next);
}

/** @param {readonly any[]} list @param {number} index */
function removed(list, index) {
  const next = list.slice();
  next.splice(index, 1);
  return Object.freeze(next);
}

// --- A run

/** @param {string} status */
const isFinished = (status) => FINISHED_STAGE_STATUSES.has(status);

/**
 * Return the counts after stages have left the status `from`, and entered `to`.
 * @param {Data} counts
 * @param {string | undefined} from
 * @param {string | undefined} to
 */
function counted(counts, from, to, amount = 1) {
  if (from === to) return counts;
  const next = { ...counts };
  if (from !== undefined) {
    const left = (next[from] ?? 0) - amount;
    if (left > 0) next[from] = left;
    else delete next[from];
  }
  if (to !== undefined) next[to] = (next[to] ?? 0) + amount;
  return Object.freeze(next);
}

/** @param {Data} counts @param {readonly string[]} statuses */
const firstCounted = (counts, statuses) => statuses.find((status) => status in counts);

/** @param {any} stage Which may wait for sub-runs. */
const withoutSubRuns = ({ waits_for_runs, waits_for_count, ...others }) => others;

/**
 * Change a stage, and the counts with its status.
 *
 * @param {any} run
 * @param {string} name The name of the stage.
 * @param {readonly string[]} before A stage that is not listed had the first of these statuses that is counted.
 * @param {Data} changes
 * @param {Data} [runChanges]
 */
function withStage(run, name, before, changes, runChanges) {
  const { stages, stage_counts } = run;
  let index = stages.length - 1;
  while (index >= 0 && stages[index].stage_name !== name) index -= 1;
  const { status } = changes;
  if (index < 0) {
    if (status === undefined || run.truncated !== true) return runChanges ? withChanges(run, runChanges) : run;
    const counts = counted(stage_counts, firstCounted(stage_counts, before), status);
    return withChanges(run, { ...runChanges, stage_counts: counts });
  }
  const stage = stages[index];
  const kept = status === undefined ? stage : withoutSubRuns(stage);
  return withChanges(run, {
    ...runChanges,
    stages: replaced(stages, index, withChanges(kept, changes)),
    stage_counts: status === undefined ? stage_counts : counted(stage_counts, stage.status, status),
  });
}

/** @param {number} position @param {Data} stage @param {Data} changes */
const newStage = (position, { stage_name, step, last_attempt }, changes) =>
  Object.freeze({
    position,
    stage_name,
    step,
    status: "pending",
    worker_id: null,
    attempt: 0,
    last_attempt,
    queued_at: null,
    started_at: null,
    finished_at: null,
    duration_ms: null,
    progress: null,
    message: "",
    error: "",
    retry_at: null,
    ...changes,
  });

/**
 * End a run: its unfinished stages end too.
 * @param {any} run
 * @param {string} finished_at
 * @param {string} stageStatus
 * @param {Data} changes
 */
function ended(run, finished_at, stageStatus, changes) {
  let { stages, stage_counts } = run;
  for (const status of Object.keys(stage_counts)) {
    if (!isFinished(status)) stage_counts = counted(stage_counts, status, stageStatus, stage_counts[status]);
  }
  if (stage_counts !== run.stage_counts) {
    const end = { status: stageStatus, finished_at, retry_at: null };
    stages = Object.freeze(
      stages.map((/** @type {any} */ stage) => (isFinished(stage.status) ? stage : withChanges(withoutWait(withoutSubRuns(stage)), end))),
    );
  }
  return withChanges(run, { ...changes, finished_at, deadline_at: null, held: null, stages, stage_counts });
}

/** The field of a new state that was reported to the server; that of the server's own is absent. @param {Data} data */
const reporter = ({ reported_by }) => (reported_by ? { reported_by } : {});

/** The fields of a sub-run that name its parent and the top of its tree; those of other runs are absent. @param {Data} data */
const family = ({ parent_id, root_id }) => (parent_id ? { parent_id, root_id } : {});

/** @param {Data} data @param {Data} changes */
const newRow = ({ workflow_id, name, total_stages, pool_id, timestamp, reported_by, parent_id, root_id }, changes) => ({
  workflow_id,
  name,
  status: "pending",
  stages_completed: 0,
  total_stages,
  pool_id,
  created_at: timestamp,
  started_at: null,
  finished_at: null,
  held: null,
  ...family({ parent_id, root_id }),
  ...reporter({ reported_by }),
  ...changes,
});

/** @param {Data} data */
const holdOf = ({ reason, needs, timestamp: since }) => Object.freeze({ reason, needs, since });

/** @type {Change} */
const stageWaitsAgain = (run, { stage_name, retry_at, last_attempt }) =>
  withStage(run, stage_name, ["running"], { status: "pending", retry_at, last_attempt });

const UNFINISHED = ["running", "waiting", "queued", "pending"];

/** @param {any} stage Which may wait for an answer, a signal or a time. */
const withoutWait = ({ wait, ...others }) => others;

/** @type {Change} */
const waitEnded = (run, { stage_name, resumes }) => {
  const stages = run.stages.map((/** @type {any} */ stage) =>
    stage.stage_name === stage_name ? Object.freeze(withoutWait(stage)) : stage,
  );
  const changed = withChanges(run, { stages: Object.freeze(stages) });
  return withStage(changed, stage_name, ["waiting"], resumes ? { status: "pending" } : {});
};

/** @param {Data} data How far the items of a stage are. */
const itemCounts = ({ total, completed, failed, running }) => Object.freeze({ total, completed, failed, running });

/** @type {Record<string, Change>} */
const RUN_FOLDS = {
  "workflow.created": (_, data) => {
    /** @type {Data[]} */
    const stages = data.stages;
    const { adapter, prompt, total_stages } = data;
    return Object.freeze({
      ...newRow(data, {}),
      adapter,
      prompt,
      params: deepFreeze(data.params),
      deadline_at: data.deadline_at,
      result: null,
      error: "",
      stage_counts: Object.freeze(total_stages > 0 ? { pending: total_stages } : {}),
      stages: Object.freeze(stages.map((stage, position) => newStage(position, stage, {}))),
      ...(stages.length < total_stages ? { truncated: true } : {}),
    });
  },
  "workflow.started": (run, { timestamp }) =>
    withChanges(run, { status: "running", started_at: run.started_at ?? timestamp }),
  "workflow.held": (run, data) => withChanges(run, { held: holdOf(data) }),
  "workflow.hold_ended": (run) => withChanges(run, { held: null }),
  "workflow.moved": (run, { pool_id }) => withChanges(run, { pool_id }),
  "workflow.completed": (run, { result, timestamp }) => {
    const started_at = run.started_at ?? timestamp;
    const changes = { status: "completed", result: deepFreeze(result), error: "", started_at };
    return ended(run, timestamp, "skipped", changes);
  },
  "workflow.failed": (run, { status, error, timestamp }) => ended(run, timestamp, "cancelled", { status, error }),
  "workflow.cancelled": (run, { reason, timestamp }) =>
    ended(run, timestamp, "cancelled", { status: "cancelled", error: reason }),
  "workflow.retried": (run, data) => {
    const { deadline_at, stages_completed, total_stages } = data;
    /** @type {Data[]} */
    const retried = data.stages;
    const lastAttempts = new Map(retried.map(({ stage_name, last_attempt }) => [stage_name, last_attempt]));
    const stages = run.stages.map((/** @type {any} */ stage) => {
      if (!lastAttempts.has(stage.stage_name)) return stage;
      // The event of its items follows if they run again.
      const { items, skip_reason, ...others } = stage;
      return withChanges(others, {
        status: "pending",
        worker_id: null,
        last_attempt: lastAttempts.get(stage.stage_name),
        finished_at: null,
        duration_ms: null,
        progress: null,
        message: "",
        error: "",
        retry_at: null,
      });
    });
    // A stage is either one of those, or completed, or stays skipped.
    const isRerun = (/** @type {any} */ { status, stage_name }) => status === "skipped" && lastAttempts.has(stage_name);
    const skipped = (run.stage_counts.skipped ?? 0) - run.stages.filter(isRerun).length;
    const pending = total_stages - stages_completed - skipped;
    return withChanges(run, {
      status: "running",
      finished_at: null,
      result: null,
      error: "",
      deadline_at,
      stages_completed,
      stage_counts: Object.freeze({
        ...(stages_completed > 0 ? { completed: stages_completed } : {}),
        ...(skipped > 0 ? { skipped } : {}),
        ...(pending > 0 ? { pending } : {}),
      }),
      stages: Object.freeze(stages),
      ...(lastAttempts.size < pending ? { truncated: true } : {}),
    });
  },
  "workflow.removed": () => null,
  "workflow.stages_queued": (run, { stages: names, step, count, timestamp }) => {
    const isNamed = names ? new Set(names) : null;
    const changes = { status: "queued", queued_at: timestamp, retry_at: null };
    let { stage_counts } = run;
    let unlisted = count;
    const stages = run.stages.map((/** @type {any} */ stage) => {
      const isQueued = isNamed
        ? isNamed.has(stage.stage_name)
        : stage.step === step && stage.status === "pending" && stage.retry_at === null;
      if (!isQueued) return stage;
      stage_counts = counted(stage_counts, stage.status, "queued");
      unlisted -= 1;
      return withChanges(stage, changes);
    });
    if (run.truncated === true && unlisted > 0) stage_counts = counted(stage_counts, "pending", "queued", unlisted);
    return withChanges(run, { stages: Object.freeze(stages), stage_counts });
  },
  "workflow.stage_started": (run, { stage_name, worker_id, attempt, timestamp }) =>
    withStage(run, stage_name, ["queued", "pending"], {
      status: "running",
      worker_id,
      attempt,
      started_at: timestamp,
      finished_at: null,
      progress: null,
      message: "",
      retry_at: null,
    }),
  "workflow.stage_completed": (run, { stage_name, duration_ms, stages_completed, timestamp }) => {
    const changes = { status: "completed", error: "", duration_ms, finished_at: timestamp, retry_at: null };
    return withStage(run, stage_name, UNFINISHED, changes, { stages_completed });
  },
  "workflow.stage_failed": (run, { stage_name, error, duration_ms, last_attempt, timestamp }) => {
    const changes = { status: "failed", error, duration_ms, last_attempt, finished_at: timestamp, retry_at: null };
    return withStage(run, stage_name, UNFINISHED, changes);
  },
  "workflow.stage_retrying": stageWaitsAgain,
  "workflow.stage_released": stageWaitsAgain,
  "workflow.map_started": (run, data) =>
    withStage(run, data.stage_name, ["running", "pending"], { status: "waiting", items: itemCounts(data) }),
  "workflow.map_progress": (run, data) => withStage(run, data.stage_name, [], { items: itemCounts(data) }),
  "workflow.waiting": (run, data) => {
    const { wait_id, wait_name: name, kind, title, schema, recipients, timestamp, expires_at, last_attempt } = data;
    const wait = deepFreeze({ wait_id, name, kind, title, schema, recipients, opened_at: timestamp, expires_at });
    return withStage(run, data.stage_name, ["running"], { status: "waiting", wait, last_attempt });
  },
  "workflow.wait_answered": waitEnded,
  "workflow.wait_expired": waitEnded,
  "workflow.stage_progress": (run, { stage_name, progress, message }) =>
    withStage(run, stage_name, [], { progress, message }),
  "workflow.stream_opened": (run, { stage_name, stream_name: name, attempt, content_type }) => {
    const stage = run.stages.find((/** @type {any} */ each) => each.stage_name === stage_name);
    const kept = (stage?.streams ?? []).filter((/** @type {any} */ each) => each.name !== name);
    const streams = [...kept, Object.freeze({ name, attempt, content_type })];
    streams.sort((one, other) => (one.name < other.name ? -1 : 1));
    return withStage(run, stage_name, [], { streams: Object.freeze(streams) });
  },
  "workflow.stage_status_changed": (run, data) => {
    const { stage_name, status, reason, stages_completed, timestamp, waits_for_runs, waits_for_count } = data;
    const why = reason ? { skip_reason: reason } : {};
    const awaited = waits_for_count ? { waits_for_runs: deepFreeze(waits_for_runs), waits_for_count } : {};
    const changes = { status, finished_at: isFinished(status) ? timestamp : null, retry_at: null, ...why, ...awaited };
    return withStage(run, stage_name, ["pending", "queued", "running"], changes, { stages_completed });
  },
  "workflow.stage_added": (run, data) => {
    const { position, step, moved_steps, total_stages, stages_completed } = data;
    const stage_counts = counted(run.stage_counts, undefined, "pending");
    let { stages } = run;
    if (moved_steps > 0) {
      stages = stages.map((/** @type {any} */ stage) =>
        stage.step < step ? stage : withChanges(stage, { step: stage.step + moved_steps }),
      );
    }
    const before = stages.filter((/** @type {any} */ stage) => stage.position < position).length;
    // A truncated list has the first stages only. A second event follows if the status of the stage is another one.
    if (run.truncated !== true || before < stages.length) {
      stages = inserted(stages, before, newStage(position, data, {}));
    }
    return withChanges(run, { stages, stage_counts, total_stages, stages_completed });
  },
  "workflow.stage_removed": (run, { stage_name, total_stages, stages_completed }) => {
    const { stages, stage_counts } = run;
    const index = stages.findIndex((/** @type {any} */ stage) => stage.stage_name === stage_name);
    const unlisted = stages_completed < run.stages_completed ? "completed" : firstCounted(stage_counts, ["pending"]);
    return withChanges(run, {
      stages: index < 0 ? stages : removed(stages, index),
      stage_counts: counted(stage_counts, index < 0 ? unlisted : stages[index].status, undefined),
      total_stages,
      stages_completed,
    });
  },
};

// --- A worker, and the workers of a pool

/** @param {Data} data The data of `worker.added` and `worker.status_changed`. */
const workerFields = ({ worker_id, status, draining, release, workflow_id, stage_name, timestamp }) => ({
  worker_id,
  status,
  draining,
  release,
  workflow_id,
  stage_name,
  status_changed_at: timestamp,
});

/** @param {Data} data */
const newWorker = (data) => ({ ...workerFields(data), last_heartbeat_at: data.timestamp, ...reporter(data) });

/** @type {Record<string, Change>} */
const WORKER_FOLDS = {
  "worker.added": (_, data) => Object.freeze({ ...newWorker(data), pool_id: data.pool_id }),
  "worker.status_changed": (worker, data) => withChanges(worker, { ...workerFields(data), pool_id: data.pool_id }),
  "worker.stage_changed": (worker, { pool_id, workflow_id, stage_name }) =>
    withChanges(worker, { pool_id, workflow_id, stage_name }),
  "worker.moved": (worker, { pool_id }) => withChanges(worker, { pool_id }),
  "worker.draining": (worker) => withChanges(worker, { draining: true }),
  "worker.removed": () => null,
};

/** The same for a worker in a pool, which does not repeat the id of the pool. @type {Record<string, Change>} */
const POOL_WORKER_FOLDS = {
  "worker.added": (_, data) => Object.freeze(newWorker(data)),
  "worker.status_changed": (worker, data) => withChanges(worker, workerFields(data)),
  "worker.stage_changed": (worker, { workflow_id, stage_name }) => withChanges(worker, { workflow_id, stage_name }),
  "worker.moved": (worker) => worker,
  "worker.draining": (worker) => withChanges(worker, { draining: true }),
  "worker.removed": () => null,
};

/**
 * Return the fold of a worker's event for a pool. A worker that was not in it joins it with its first whole state.
 * @param {string} name
 * @returns {Change}
 */
const ofPoolWorker = (name) => (pool, data) => {
  const { workers } = pool;
  const { worker_id } = data;
  let index = workers.length;
  while (index > 0 && workers[index - 1].worker_id >= worker_id) index -= 1;
  const known = workers[index]?.worker_id === worker_id ? workers[index] : null;
  if (known) {
    const after = data.pool_id === pool.pool_id ? POOL_WORKER_FOLDS[name](known, data) : null;
    return withChanges(pool, { workers: after ? replaced(workers, index, after) : removed(workers, index) });
  }
  const isWhole = name === "worker.added" || name === "worker.status_changed";
  // The workers behind the last one of a truncated list are unknown.
  const isListed = index < workers.length || pool.truncated !== true;
  if (data.pool_id !== pool.pool_id || !isWhole || !isListed) return pool;
  return withChanges(pool, { workers: inserted(workers, index, Object.freeze(newWorker(data))) });
};

/** @param {Data} data */
const newPoolRow = (data) => ({ pool_id: data.pool_id, status: "active", metrics: NO_METRICS, ...reporter(data) });

/** @type {Record<string, Change>} */
const POOL_CHANGES = {
  "pool.status_changed": (pool, { status }) => withChanges(pool, { metrics: deepFreeze(status) }),
  "pool.drained": (pool) => withChanges(pool, { status: "draining" }),
  "pool.reopened": (pool) => withChanges(pool, { status: "active" }),
  "pool.closed": (pool) => withChanges(pool, { status: "closed" }),
};

/** @type {Record<string, Change>} */
const POOL_FOLDS = {
  "pool.created": (_, data) => Object.freeze({ ...newPoolRow(data), workers: Object.freeze([]) }),
  "pool.removed": () => null,
  ...POOL_CHANGES,
  ...Object.fromEntries(Object.keys(POOL_WORKER_FOLDS).map((name) => [name, ofPoolWorker(name)])),
};

// --- The overview: unfinished runs and pools

/**
 * Return the fold of an event that changes one row of the overview, if that is listed.
 * @param {"workflows" | "pools"} list
 * @param {"workflow_id" | "pool_id"} key
 * @param {Change | null} change Null removes the row.
 * @returns {Change}
 */
const ofRow = (list, key, change) => (overview, data) => {
  const rows = overview[list];
  const id = data[key];
  const index = rows.findIndex((/** @type {any} */ row) => row[key] === id);
  if (index < 0) return overview;
  return withChanges(overview, {
    [list]: change ? replaced(rows, index, change(rows[index], data)) : removed(rows, index),
  });
};

/** @param {Change | null} change */
const ofRunRow = (change) => ofRow("workflows", "workflow_id", change);
/** @param {Change | null} change */
const ofPoolRow = (change) => ofRow("pools", "pool_id", change);

/** @param {any} overview @param {"workflows" | "pools"} list @param {readonly any[]} rows */
function withRows(overview, list, rows) {
  if (rows.length <= MAX_OVERVIEW_ROWS) return withChanges(overview, { [list]: rows });
  return withChanges(overview, { [list]: Object.freeze(rows.slice(0, MAX_OVERVIEW_ROWS)), truncated: true });
}

/** Insert a run in its place: newest first. @param {any} overview @param {any} row */
function withRunRow(overview, row) {
  const rows = overview.workflows.filter((/** @type {any} */ other) => other.workflow_id !== row.workflow_id);
  let index = 0;
  while (index < rows.length && isNewer(rows[index], row)) index += 1;
  // There are others before it that are not listed.
  if (overview.truncated === true && index === rows.length) return overview;
  return withRows(overview, "workflows", inserted(rows, index, Object.freeze(row)));
}

/** @param {any} run @param {any} other */
function isNewer(run, other) {
  // Without the Z, because the fraction of a second may be absent.
  const a = run.created_at.slice(0, -1);
  const b = other.created_at.slice(0, -1);
  return a === b ? run.workflow_id > other.workflow_id : a > b;
}

/** @type {Change} */
const withCompletedStages = (row, { stages_completed }) => withChanges(row, { stages_completed });
/** @type {Change} */
const withCountedStages = (row, { total_stages, stages_completed }) =>
  withChanges(row, { total_stages, stages_completed });

/** @type {Record<string, Change>} */
const OVERVIEW_FOLDS = {
  "workflow.created": (overview, data) => withRunRow(overview, newRow(data, {})),
  "workflow.retried": (overview, data) => {
    const { created_at, started_at, stages_completed } = data;
    return withRunRow(overview, newRow(data, { status: "running", created_at, started_at, stages_completed }));
  },
  "workflow.started": ofRunRow((row, { timestamp }) =>
    withChanges(row, { status: "running", started_at: row.started_at ?? timestamp }),
  ),
  "workflow.stage_completed": ofRunRow(withCompletedStages),
  "workflow.stage_status_changed": ofRunRow(withCompletedStages),
  "workflow.stage_added": ofRunRow(withCountedStages),
  "workflow.stage_removed": ofRunRow(withCountedStages),
  "workflow.held": ofRunRow((row, data) => withChanges(row, { held: holdOf(data) })),
  "workflow.hold_ended": ofRunRow((row) => withChanges(row, { held: null })),
  "workflow.moved": ofRunRow((row, { pool_id }) => withChanges(row, { pool_id })),
  "workflow.completed": ofRunRow(null),
  "workflow.failed": ofRunRow(null),
  "workflow.cancelled": ofRunRow(null),
  "workflow.removed": ofRunRow(null),
  "pool.created": (overview, data) =>
    withRows(overview, "pools", inserted(overview.pools, 0, Object.freeze(newPoolRow(data)))),
  "pool.removed": ofPoolRow(null),
  ...Object.fromEntries(Object.entries(POOL_CHANGES).map(([name, change]) => [name, ofPoolRow(change)])),
};

/** What to do with each event, by type of channel. @type {ReadonlyMap<string, ReadonlyMap<string, Change>>} */
const FOLDS = new Map([
  ["workflow", new Map(Object.entries(RUN_FOLDS))],
  ["pool", new Map(Object.entries(POOL_FOLDS))],
  ["worker", new Map(Object.entries(WORKER_FOLDS))],
  ["global", new Map(Object.entries(OVERVIEW_FOLDS))],
  ["summary", new Map(Object.entries(OVERVIEW_FOLDS))],
]);
