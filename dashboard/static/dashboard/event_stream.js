// The newest events of a channel, as a reader can follow them: nothing moves while something is read.
//
// What is shown is a part of the channel without holes, newest first. What comes while the reader reads, has paused, or
// cannot follow, waits: it is counted, and shown when the reader asks for it.

import { HistoryLost } from "../realtime/clients/1.0.0/mahavishnu.js";
import { client, isLive, now } from "./connection.js";
import { batch, computed, effect, signal } from "./lib.js";

/** How many events are read at once. */
const READ_EVENTS = 100;
/** The most rows that are drawn. */
export const MAX_ROWS = 200;
/** The most events that wait. The oldest ones are dropped: the event log has them. */
export const MAX_WAITING = 2000;
/** A page that comes faster is not followed: it cannot be read. */
const MAX_ROWS_PER_SECOND = 50;
/** A page of a filter that matches little may be empty, and say where the next one begins. */
const MAX_EMPTY_PAGES = 10;

/**
 * @typedef {object} Item An event, or a gap.
 * @property {number} key
 * @property {number} seq
 * @property {string} name Empty for a gap.
 * @property {any} data
 * @property {string} timestamp
 * @property {string} id
 * @property {string} gap Why events are missing; empty for an event.
 */

let lastKey = 0;

/** @param {any} event @returns {Item} */
function itemOf(event) {
  const { seq, data, timestamp, id } = event;
  return { key: ++lastKey, seq, name: event.name ?? event.event, data, timestamp, id, gap: "" };
}

/** @param {HistoryLost} lost @returns {Item} */
const gapOf = (lost) => ({
  key: ++lastKey,
  seq: lost.seq,
  name: "",
  data: {},
  timestamp: new Date().toISOString(),
  id: "",
  gap: lost.reason,
});

/** The events of one channel with some names. */
export class EventStream {
  /** What is shown, newest first; null until it is read. */
  shown = signal(/** @type {Item[] | null} */ (null));
  /** How many newer events wait. */
  waiting = signal(0);
  /** How many of those are no longer kept. */
  dropped = signal(0);
  isPaused = signal(false);
  /** Whether events come faster than they can be read. */
  isFlooded = signal(false);
  hasOlder = signal(false);
  isReading = signal(false);
  error = signal(/** @type {Error | null} */ (null));
  #names;
  #isHeld;
  /** Newest last. @type {Item[]} */
  #queue = [];
  #arrived = 0;
  #lastSeq = 0;
  /** Where older events begin. @type {number | null} */
  #olderBefore = null;
  #isAtEnd = true;
  #floodedUntil = 0;
  /** @type {{at: number, count: number}[]} */
  #arrivals = [];
  #frame = 0;
  #isClosed = false;
  #stream;
  #stop;

  /**
   * @param {string} channel
   * @param {string[]} names Which events; all if it is empty.
   * @param {import("./folded_events.js").FoldedEvents} folded Those that are counted instead of shown.
   * @param {() => boolean} isHeld Whether the reader reads, so that nothing may move.
   */
  constructor(channel, names, folded, isHeld) {
    this.channel = channel;
    this.#names = names;
    this.folded = folded;
    this.#isHeld = isHeld;
    this.#stream = client.events(channel);
    void this.#follow();
    // Reads the latest events; again if that failed, when the server is there.
    const stopReading = effect(() => {
      if (isLive.value && this.shown.peek() === null && !this.isReading.peek())
        queueMicrotask(() => void this.readLatest());
    });
    const isWaiting = computed(() => this.waiting.value > 0 || this.isFlooded.value);
    const stopTicking = effect(() => {
      if (isWaiting.value) now.value;
      this.#flushSoon();
    });
    this.#stop = () => {
      stopReading();
      stopTicking();
    };
  }

  close() {
    this.#isClosed = true;
    this.#stop();
    this.#stream.close();
    cancelAnimationFrame(this.#frame);
  }

  /** Read the latest events, and begin with them. */
  async readLatest() {
    const page = await this.#read(null);
    if (!page) return;
    batch(() => {
      this.#queue = this.#queue.filter((item) => item.seq > page.newestSeq);
      this.#lastSeq = Math.max(page.newestSeq, ...this.#queue.map((item) => item.seq));
      this.#showPage(page);
      this.waiting.value = this.#queue.length;
      this.#isAtEnd = true;
    });
    this.#flush();
  }

  /** Show older events too. The newest rows give way if there are too many. */
  async readOlder() {
    const before = this.#olderBefore ?? this.shown.peek()?.at(-1)?.seq;
    const page = await this.#read(before ?? null);
    const rows = this.shown.peek();
    if (!page || !rows) return;
    batch(() => {
      const all = [...rows, ...page.items];
      const surplus = Math.max(0, all.length - MAX_ROWS);
      if (surplus) this.#giveBack(all.slice(0, surplus));
      this.shown.value = all.slice(surplus);
      this.hasOlder.value = page.hasMore;
      this.#olderBefore = page.nextSeq;
    });
  }

  /** Show what was dropped, from the event log: the events before those that wait. */
  async readDropped() {
    const oldest = this.#queue[0];
    const page = oldest && (await this.#read(oldest.seq));
    if (page)
      batch(() => {
        this.#showPage(page);
        this.dropped.value = 0;
        this.#isAtEnd = false;
      });
  }

  /** Show the newest events. */
  showNewest() {
    const rows = this.shown.peek();
    if (!rows) return;
    batch(() => {
      const newer = this.#queue.splice(0).reverse();
      const isWhole = this.dropped.peek() === 0;
      const all = isWhole ? [...newer, ...rows] : newer;
      if (all.length > MAX_ROWS || !isWhole) {
        this.hasOlder.value = true;
        this.#olderBefore = null;
      }
      this.shown.value = all.slice(0, MAX_ROWS);
      this.waiting.value = this.dropped.value = 0;
      this.#isAtEnd = true;
    });
  }

  togglePause() {
    this.isPaused.value = !this.isPaused.peek();
    if (!this.isPaused.peek()) this.showNewest();
  }

  /** Stop here, with the newest events to read. */
  pauseToRead() {
    this.showNewest();
    this.isPaused.value = true;
  }

  /** Rows that were shown wait again. @param {Item[]} newest Newest first. */
  #giveBack(newest) {
    this.#queue = [...newest.toReversed(), ...this.#queue];
    this.#bound();
    this.waiting.value = this.#queue.length + this.dropped.peek();
    this.#isAtEnd = false;
  }

  /** @param {{items: Item[], hasMore: boolean, nextSeq: number | null}} page */
  #showPage(page) {
    this.shown.value = page.items;
    this.hasOlder.value = page.hasMore;
    this.#olderBefore = page.nextSeq;
    this.error.value = null;
  }

  async #follow() {
    try {
      for await (const item of this.#stream) this.#add(item);
    } catch (error) {
      if (!this.#isClosed) this.error.value = /** @type {Error} */ (error);
    }
  }

  /** @param {any} item */
  #add(item) {
    if (item instanceof HistoryLost) {
      // Positions of another log have nothing to do with those before.
      if (item.reason === "epoch" || item.reason === "ahead") this.hasOlder.value = false;
      this.#lastSeq = item.seq;
      this.folded.restart(item.seq);
      this.#queue.push(gapOf(item));
    } else {
      if (item.seq <= this.#lastSeq || (this.#names.length && !this.#names.includes(item.name))) return;
      this.#lastSeq = item.seq;
      if (this.folded.shownOf([item]).length === 0) return;
      this.#queue.push(itemOf(item));
    }
    this.#arrived++;
    // A hidden tab has no frames.
    if (this.#queue.length >= 2 * MAX_WAITING) this.#bound();
    this.#flushSoon();
  }

  /** Look whether the reader still reads. */
  check() {
    if (this.waiting.peek()) this.#flushSoon();
  }

  #bound() {
    const surplus = this.#queue.length - MAX_WAITING;
    if (surplus <= 0) return;
    this.#queue.splice(0, surplus);
    this.dropped.value += surplus;
  }

  #flushSoon() {
    if (!this.#isClosed) this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  /** Show what has come, or count it. */
  #flush() {
    this.#frame = 0;
    if (this.#isClosed) return;
    const atMs = performance.now();
    this.#arrivals = this.#arrivals.filter(({ at }) => at > atMs - 1000);
    if (this.#arrived) this.#arrivals.push({ at: atMs, count: this.#arrived });
    this.#arrived = 0;
    if (this.#arrivals.reduce((total, { count }) => total + count, 0) > MAX_ROWS_PER_SECOND)
      this.#floodedUntil = atMs + 1000;
    batch(() => {
      this.#bound();
      this.isFlooded.value = atMs < this.#floodedUntil;
      this.waiting.value = this.#queue.length + this.dropped.peek();
      const isFollowed = this.#isAtEnd && !this.isPaused.peek() && !this.isFlooded.peek() && !this.#isHeld();
      if (isFollowed && this.#queue.length && this.shown.peek()) this.showNewest();
    });
  }

  /** @param {number | null} before */
  async #read(before) {
    this.isReading.value = true;
    try {
      /** @type {Item[]} */
      const items = [];
      const minRows = this.folded.isActive ? READ_EVENTS / 2 : 1;
      let newestSeq = 0;
      for (let pages = 0; ; pages++) {
        const names = this.#names.length ? this.#names : null;
        const page = await client.listEvents(this.channel, { before, names, limit: READ_EVENTS });
        const read = page.events.map(itemOf).sort((one, other) => other.seq - one.seq);
        newestSeq = Math.max(newestSeq, read[0]?.seq ?? 0);
        items.push(...this.folded.shownOf(read));
        if (items.length >= minRows || !page.has_more || pages === MAX_EMPTY_PAGES)
          return { items, hasMore: page.has_more, nextSeq: page.next_seq, newestSeq };
        before = page.next_seq;
      }
    } catch (error) {
      if (!this.#isClosed) this.error.value = /** @type {Error} */ (error);
      return null;
    } finally {
      this.isReading.value = false;
    }
  }
}
