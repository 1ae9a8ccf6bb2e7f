// The metrics of a pool over time: read once, then continued with the metrics that events bring.

import { client } from "./connection.js";
import { signal } from "./lib.js";
import { Refresher } from "./refresher.js";

const MINUTE_MS = 60_000;
/** Reading again after a gap, at most this often. */
const READ_EVERY_MS = 30_000;
/** A distance of more steps than this between two samples is a gap: no line is drawn over it. */
const GAP_STEPS = 2.5;
const RATE_WINDOW_MS = 60_000;
const MIN_RATE_WINDOW_MS = 5_000;
const METER_EVERY_MS = 1_000;

/** @typedef {import("mahavishnu-client").PoolMetrics} PoolMetrics */
/** @typedef {{atMs: number, queued: number, completed: number, failed: number}} Sample */
/** @typedef {{atMs: number[], queued: (number | null)[], done: (number | null)[], failed: (number | null)[]}} Series Rates are per minute. */

/** @param {PoolMetrics} metrics @param {number} atMs @returns {Sample} */
const sampleOf = (metrics, atMs) => ({
  atMs,
  queued: metrics.queue_size,
  completed: metrics.tasks_completed,
  failed: metrics.tasks_failed,
});

export class PoolHistory {
  samples = signal(/** @type {Sample[]} */ ([]));
  isKnown = signal(false);
  stepMs = MINUTE_MS;
  /** Called after each reading. */
  onRead = () => {};

  /** @param {string} poolId @param {number} minutes @param {number | null} [stepSeconds] Null leaves it to the server. */
  constructor(poolId, minutes, stepSeconds = null) {
    this.minutes = minutes;
    this.spanMs = minutes * MINUTE_MS;
    this.reader = new Refresher(async () => {
      const answer = await client.getPoolHistory(poolId, { minutes, step_seconds: stepSeconds });
      const rows = /** @type {any[]} */ (answer.samples);
      this.stepMs = answer.step_seconds * 1000;
      this.samples.value = rows.map((row) => sampleOf(row, Date.parse(row.at)));
      this.isKnown.value = true;
      this.onRead();
    }, READ_EVERY_MS);
    this.reader.want();
  }

  /** Continue with the metrics now: one sample for each step. @param {PoolMetrics} metrics @param {number} nowMs */
  add(metrics, nowMs) {
    if (!this.isKnown.peek()) return;
    const samples = this.samples.peek();
    const last = samples.at(-1);
    if (last && nowMs < last.atMs + this.stepMs) return;
    // What happened while the page was asleep, or not connected, is known to the server only.
    if (last && nowMs > last.atMs + this.stepMs * GAP_STEPS) this.reader.want();
    const first = samples.findIndex((sample) => sample.atMs >= nowMs - this.spanMs);
    this.samples.value = [...(first < 0 ? [] : samples.slice(first)), sampleOf(metrics, nowMs)];
  }

  /** @returns {Series} */
  series() {
    return seriesOf(this.samples.value, this.stepMs);
  }

  /**
   * Return one value for each step of the time until now; null where nothing is known.
   * @param {"queued" | "done" | "failed"} key
   * @param {number} nowMs
   */
  grid(key, nowMs) {
    const series = this.series();
    const values = Array.from(
      { length: Math.round(this.spanMs / this.stepMs) },
      () => /** @type {number | null} */ (null),
    );
    series.atMs.forEach((atMs, index) => {
      // The step now has not ended: the last value is the one before.
      const back = Math.floor(nowMs / this.stepMs) - Math.floor(atMs / this.stepMs);
      const at = values.length - Math.max(1, back);
      if (at >= 0) values[at] = series[key][index] ?? values[at];
    });
    return values;
  }

  close() {
    this.reader.close();
  }
}

/** @param {Sample[]} samples In the order of their times. @param {number} stepMs @returns {Series} */
function seriesOf(samples, stepMs) {
  /** @type {Series} */
  const series = { atMs: [], queued: [], done: [], failed: [] };
  let first = 0;
  samples.forEach((sample, index) => {
    const before = samples[index - 1];
    if (before && sample.atMs - before.atMs > stepMs * GAP_STEPS) {
      push(series, before.atMs + stepMs, null, null, null);
      first = index;
    }
    // A rate is that of a whole minute at least: a step of 10 s with one stage in it is no peak of 6 a minute.
    while (first < index - 1 && samples[first + 1].atMs <= sample.atMs - RATE_WINDOW_MS) first++;
    // The counters of a pool that was created anew begin at 0.
    if (before && sample.completed < before.completed) first = index;
    const spanMs = sample.atMs - samples[first].atMs;
    const rate = (/** @type {"completed" | "failed"} */ key) =>
      spanMs > 0 ? (Math.max(0, sample[key] - samples[first][key]) * MINUTE_MS) / spanMs : null;
    push(series, sample.atMs, sample.queued, rate("completed"), rate("failed"));
  });
  return series;
}

/** @param {Series} series @param {number} atMs @param {number | null} queued @param {number | null} done @param {number | null} failed */
function push(series, atMs, queued, done, failed) {
  series.atMs.push(atMs);
  series.queued.push(queued);
  series.done.push(done);
  series.failed.push(failed);
}

/** How fast a counter grows, over the last minute. */
export class RateMeter {
  /** @type {[number, number][]} */
  #points = [];

  /** Continue after what was read. @param {[number, number][]} points Times in milliseconds, and the counter. */
  seed(points) {
    const first = this.#points[0]?.[0] ?? Infinity;
    const nowMs = this.#points.at(-1)?.[0] ?? points.at(-1)?.[0] ?? 0;
    const earlier = points.filter(([atMs]) => atMs < first && atMs > nowMs - 2 * RATE_WINDOW_MS);
    this.#points = [...earlier, ...this.#points];
  }

  /** @param {number} atMs @param {number} total */
  add(atMs, total) {
    const last = this.#points.at(-1);
    if (last && (total < last[1] || atMs < last[0])) this.#points = [];
    if (!last || atMs - last[0] >= METER_EVERY_MS) this.#points.push([atMs, total]);
    // The first point is the last one that is as old as the window.
    while (this.#points.length > 1 && this.#points[1][0] <= atMs - RATE_WINDOW_MS) this.#points.shift();
  }

  /** Return the growth per minute; null if it is not known yet. @param {number} atMs @param {number} total */
  perMinute(atMs, total) {
    const [firstMs, first] = this.#points[0] ?? [atMs, total];
    const spanMs = atMs - firstMs;
    return spanMs < MIN_RATE_WINDOW_MS ? null : (Math.max(0, total - first) * MINUTE_MS) / spanMs;
  }
}
