// States that a page follows while it shows them: a few at a time, however often what is shown changes.

import { follow } from "./connection.js";
import { signal } from "./lib.js";

/** The shortest time between two changes of what is followed: each one costs the server messages. */
const CHANGE_EVERY_MS = 1_000;

/** @template S */
export class FollowedStates {
  /** @type {Map<string, import("./connection.js").Followed<S>>} */
  #followed = new Map();
  #wanted = /** @type {string[]} */ ([]);
  #version = signal(0);
  #timer = 0;
  #changedAtMs = -Infinity;
  #isClosed = false;

  /**
   * @param {(id: string) => any} storeOf The store of the client for an id.
   * @param {number} max How many are followed at once.
   */
  constructor(storeOf, max) {
    this.storeOf = storeOf;
    this.max = max;
  }

  /** Return the state of one, if it is followed and known; null if it does not exist. @param {string} id @returns {S | null | undefined} */
  get(id) {
    this.#version.value;
    return this.#followed.get(id)?.value;
  }

  /** Follow these from now on, and no others. A view may call it with each drawing. @param {Iterable<string>} ids */
  keep(ids) {
    const wanted = [...new Set(ids)].slice(0, this.max);
    const isSame = wanted.length === this.#followed.size && wanted.every((id) => this.#followed.has(id));
    this.#wanted = wanted;
    if (isSame || this.#timer || this.#isClosed) return;
    this.#timer = window.setTimeout(
      () => this.#change(),
      Math.max(0, this.#changedAtMs + CHANGE_EVERY_MS - performance.now()),
    );
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const { stop } of this.#followed.values()) stop();
    this.#followed.clear();
  }

  #change() {
    this.#timer = 0;
    this.#changedAtMs = performance.now();
    const wanted = new Set(this.#wanted);
    for (const [id, { stop }] of this.#followed) {
      if (wanted.has(id)) continue;
      stop();
      this.#followed.delete(id);
    }
    for (const id of wanted) if (!this.#followed.has(id)) this.#followed.set(id, follow(this.storeOf(id)));
    this.#version.value++;
  }
}
