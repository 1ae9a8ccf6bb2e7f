// Events that come often and say little: they are counted instead of shown.

import { signal } from "./lib.js";

/** The events with some names that a stream has received. */
export class FoldedEvents {
  count = signal(0);
  #names;
  /** The part of the log in which they are counted: an event may be read again. */
  #from = Infinity;
  #to = -Infinity;

  /** @param {string[]} names */
  constructor(names) {
    this.#names = names;
  }

  /** Whether there are names to fold. */
  get isActive() {
    return this.#names.length > 0;
  }

  /**
   * Return the events that are shown, and count the others. The events belong to one part of the log without holes.
   * @template {{seq: number, name: string}} Item
   * @param {Item[]} items
   */
  shownOf(items) {
    if (!this.isActive || items.length === 0) return items;
    const isFolded = (/** @type {Item} */ { name }) => this.#names.includes(name);
    this.count.value += items.filter((item) => isFolded(item) && (item.seq < this.#from || item.seq > this.#to)).length;
    const seqs = items.map(({ seq }) => seq);
    this.#from = Math.min(this.#from, ...seqs);
    this.#to = Math.max(this.#to, ...seqs);
    return items.filter((item) => !isFolded(item));
  }

  /** Count from a position on: the log is another one. @param {number} seq */
  restart(seq) {
    this.#from = this.#to = seq;
  }
}
