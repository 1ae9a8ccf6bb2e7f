// What the page of events shows: the stream that its address names, the rows that are open, and the names of runs.

import { client } from "./connection.js";
import { POOL_COUNTS, filtersOf } from "./event_filters.js";
import { EventStream } from "./event_stream.js";
import { FoldedEvents } from "./folded_events.js";
import { computed, effect, signal } from "./lib.js";
import { route } from "./routes.js";

/** @typedef {import("./event_stream.js").Item} Item */

const MAX_NAMES = 5_000;
/** A page that is scrolled further is being read. */
const TOP_PX = 8;
const NAMED_RUNS = 200;

/** The stream of the channel that the address names, and what its reader has open. */
export class Feed {
  stream = signal(/** @type {EventStream | null} */ (null));
  opened = signal(/** @type {Set<number>} */ (new Set()));
  /** The names of runs, by id: many events have only the id. @type {Map<string, string>} */
  names = new Map();
  #stop;

  constructor() {
    const wanted = computed(() => {
      const { channel, names, foldsCounts } = filtersOf(route.value.query);
      return JSON.stringify([channel, names, foldsCounts ? [POOL_COUNTS] : []]);
    });
    const stopFollowing = effect(() => {
      const [channel, names, folded] = JSON.parse(wanted.value);
      queueMicrotask(() => this.#open(channel, names, folded));
    });
    const onScroll = () => this.stream.peek()?.check();
    addEventListener("scroll", onScroll, { passive: true });
    this.#stop = () => {
      stopFollowing();
      removeEventListener("scroll", onScroll);
    };
    void this.#readNames();
  }

  close() {
    this.#stop();
    this.stream.peek()?.close();
  }

  /** @param {number} key */
  toggle(key) {
    const opened = new Set(this.opened.peek());
    if (!opened.delete(key)) opened.add(key);
    this.opened.value = opened;
  }

  /** Return the name of a run. @param {Item} item */
  nameOf({ data }) {
    if (data.name) {
      if (this.names.size >= MAX_NAMES) this.names.clear();
      this.names.set(data.workflow_id, data.name);
    }
    return data.name || this.names.get(data.workflow_id) || "";
  }

  /** @param {string} channel @param {string[]} names @param {string[]} folded */
  #open(channel, names, folded) {
    this.stream.peek()?.close();
    this.opened.value = new Set();
    this.stream.value = channel
      ? new EventStream(channel, names, new FoldedEvents(folded), () => this.#isRead())
      : null;
  }

  /** Return whether the reader reads: rows that come then would move what is read. */
  #isRead() {
    const list = document.querySelector(".event-list");
    const selection = getSelection();
    const opened = this.opened.peek();
    return (
      scrollY > TOP_PX ||
      Boolean(list?.querySelector(":focus-visible")) ||
      Boolean(selection && !selection.isCollapsed && list?.contains(selection.anchorNode)) ||
      Boolean(
        opened.size &&
        this.stream
          .peek()
          ?.shown.peek()
          ?.some((item) => opened.has(item.key)),
      )
    );
  }

  async #readNames() {
    try {
      const { workflows } = await client.listWorkflows({ limit: NAMED_RUNS });
      for (const run of workflows) this.names.set(run.workflow_id, run.name);
    } catch {
      // The ids alone are shown then.
    }
  }
}
