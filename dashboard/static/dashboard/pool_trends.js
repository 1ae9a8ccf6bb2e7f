// How the pools of a list do: the last hour of some, and how many stages each completes a minute.

import { isLive, serverNow } from "./connection.js";
import { effect, signal, untracked } from "./lib.js";
import { PoolHistory, RateMeter } from "./pool_history.js";

const MINUTES = 60;
const STEP_SECONDS = 60;

/** @typedef {import("mahavishnu-client").PoolRow} PoolRow */
/** @typedef {{meter: RateMeter, history: PoolHistory | null}} Trend */

export class PoolTrends {
  /** @type {Map<string, Trend>} */
  #trends = new Map();
  #version = signal(0);

  /**
   * @param {() => readonly PoolRow[] | undefined} rows The pools now.
   * @param {number} maxHistories Of how many pools the last hour is read.
   */
  constructor(rows, maxHistories) {
    this.rows = rows;
    this.maxHistories = maxHistories;
    // Once a second, however many events there are.
    this.stop = effect(() => {
      const nowMs = serverNow.value;
      if (isLive.value) untracked(() => this.#measure(nowMs));
    });
  }

  /** The last hour of a pool, if it was read. @param {string} poolId */
  historyOf(poolId) {
    this.#version.value;
    const history = this.#trends.get(poolId)?.history;
    return history?.isKnown.value ? history : null;
  }

  /** Stages that a pool completes a minute; null if it is not known yet. @param {PoolRow} row */
  doneRate(row) {
    // Once the pools are known, and then each second.
    if (this.#trends.size === 0) queueMicrotask(() => untracked(() => this.#measure(serverNow.value)));
    return this.#trends.get(row.pool_id)?.meter.perMinute(serverNow.value, row.metrics.tasks_completed) ?? null;
  }

  /** The sum over pools, minute by minute. @returns {{queued: (number | null)[], done: (number | null)[]}} */
  total() {
    this.#version.value;
    const nowMs = serverNow.value;
    const known = [...this.#trends.values()].flatMap(({ history }) => (history?.isKnown.value ? [history] : []));
    const sum = (/** @type {"queued" | "done"} */ key) =>
      known
        .map((history) => history.grid(key, nowMs))
        .reduce(
          added,
          Array.from({ length: MINUTES }, () => null),
        );
    return { queued: sum("queued"), done: sum("done") };
  }

  close() {
    this.stop();
    for (const { history } of this.#trends.values()) history?.close();
  }

  /** @param {number} nowMs */
  #measure(nowMs) {
    const rows = this.rows();
    if (!rows) return;
    const ids = new Set(rows.map((row) => row.pool_id));
    for (const [id, { history }] of this.#trends) {
      if (ids.has(id)) continue;
      history?.close();
      this.#trends.delete(id);
    }
    for (const row of rows) {
      const trend = this.#trends.get(row.pool_id) ?? this.#added(row);
      trend.meter.add(nowMs, row.metrics.tasks_completed);
      trend.history?.add(row.metrics, nowMs);
    }
  }

  /** @param {PoolRow} row */
  #added(row) {
    const count = [...this.#trends.values()].filter(({ history }) => history).length;
    const isRead = row.status !== "closed" && count < this.maxHistories;
    const history = isRead ? new PoolHistory(row.pool_id, MINUTES, STEP_SECONDS) : null;
    const trend = { meter: new RateMeter(), history };
    if (history) history.onRead = () => trend.meter.seed(recent(history.samples.peek()));
    this.#trends.set(row.pool_id, trend);
    this.#version.value++;
    return trend;
  }
}

/**
 * The completed stages at the end of the last minutes.
 * @param {import("./pool_history.js").Sample[]} samples
 * @returns {[number, number][]}
 */
const recent = (samples) => samples.slice(-3).map(({ atMs, completed }) => [atMs, completed]);

/** @param {(number | null)[]} sums @param {(number | null)[]} values @returns {(number | null)[]} */
const added = (sums, values) =>
  sums.map((sum, index) => (values[index] === null ? sum : (sum ?? 0) + (values[index] ?? 0)));
