// The charts of a pool, drawn by uPlot on canvases, and the same numbers as a table.

import { timeOfDay } from "./format.js";
import { html, signal } from "./lib.js";
import { scrollRegion, timeAt, when } from "./parts.js";
import { rateText } from "./sparkline.js";

/** @typedef {import("./pool_history.js").Series} Series */
/** @typedef {import("./chart_library.js").default} Plot */

const HEIGHT = 120;
const MAX_TABLE_ROWS = 60;
/** The narrowest label of the vertical axis, in pixels. */
const AXIS_WIDTH = 40;

/** @type {["queued" | "done" | "failed", string, string][]} */
const CHARTS = [
  ["queued", "Queued stages", "waiting"],
  ["done", "Completed per minute", "success"],
  ["failed", "Failed per minute", "failure"],
];

/** Charts that live as long as their page: their elements are put into each drawing of it. */
export class PoolCharts {
  /** What the cursor is at: an index of the series, null if it is nowhere. */
  #at = signal(/** @type {number | null} */ (null));
  #isTableOpen = signal(false);
  /** @type {Series | null} */
  #series = null;
  /** @type {[number, number]} */
  #spanSeconds = [Date.now() / 1000 - 3600, Date.now() / 1000];
  /** @type {Map<string, {host: HTMLElement, plot: Plot | null}>} */
  #charts = new Map();
  #resizes = new ResizeObserver(() => this.#resize());
  #themes = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#charts.forEach(({ plot }) => plot?.redraw(false, true));
  #attributes = new MutationObserver(this.#redraw);
  #isClosed = false;

  constructor() {
    for (const [key, , colour] of CHARTS) {
      const host = document.createElement("div");
      host.className = `chart ${colour}`;
      // The table has the same for screen readers.
      host.setAttribute("aria-hidden", "true");
      this.#charts.set(key, { host, plot: null });
      this.#resizes.observe(host);
    }
    this.#themes.addEventListener("change", this.#redraw);
    this.#attributes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    void this.#create();
  }

  close() {
    this.#isClosed = true;
    this.#resizes.disconnect();
    this.#attributes.disconnect();
    this.#themes.removeEventListener("change", this.#redraw);
    for (const { plot } of this.#charts.values()) plot?.destroy();
  }

  /** Show these numbers. @param {Series} series @param {number} spanMs @param {number} nowMs */
  show(series, spanMs, nowMs) {
    if (series === this.#series) return;
    this.#series = series;
    // The time of the server is not known before it answers.
    if (Number.isFinite(nowMs)) this.#spanSeconds = [(nowMs - spanMs) / 1000, nowMs / 1000];
    for (const [key] of CHARTS) this.#charts.get(key)?.plot?.setData(this.#dataOf(key));
  }

  /** @param {Series} series */
  view(series) {
    const at = this.#at.value;
    const index = at !== null && at < series.atMs.length ? at : series.atMs.length - 1;
    return html`<div class="charts">
        ${CHARTS.map(([key, name]) => {
          const value = series[key][index];
          return html`<figure>
            <figcaption>
              ${name}
              <strong>${value === null || value === undefined ? "–" : rateText(value)}</strong>
              ${at === null || index < 0 ? "" : html`<span class="muted">at ${timeOfDay(series.atMs[index])}</span>`}
            </figcaption>
            ${this.#charts.get(key)?.host}
          </figure>`;
        })}
      </div>
      <details
        class="chart-table"
        @toggle=${(/** @type {any} */ event) => (this.#isTableOpen.value = event.target.open)}
      >
        <summary>The charts as a table</summary>
        ${when(this.#isTableOpen.value, table(series))}
      </details>`;
  }

  async #create() {
    const { default: UPlot } = await import("./chart_library.js");
    if (this.#isClosed) return;
    for (const [key] of CHARTS) {
      const chart = this.#charts.get(key);
      if (chart) chart.plot = new UPlot(this.#optionsOf(key, chart.host), this.#dataOf(key), chart.host);
    }
    this.#resize();
  }

  /** @param {"queued" | "done" | "failed"} key */
  #dataOf(key) {
    return this.#series ? [this.#series.atMs.map((ms) => ms / 1000), this.#series[key]] : [[], []];
  }

  #resize() {
    for (const { host, plot } of this.#charts.values()) {
      if (plot && host.clientWidth > 0 && host.clientWidth !== plot.width)
        plot.setSize({ width: host.clientWidth, height: HEIGHT });
    }
  }

  /** The colours are those of the element now, so that a redrawing follows the theme. @param {string} key @param {HTMLElement} host */
  #optionsOf(key, host) {
    const style = getComputedStyle(host);
    const [line, muted] = [() => style.borderTopColor, () => style.caretColor];
    const axis = {
      stroke: muted,
      font: "11px system-ui, sans-serif",
      grid: { stroke: line, width: 1 },
      ticks: { show: false },
    };
    return {
      width: host.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "pool" }, points: { size: 6 } },
      hooks: {
        setCursor: [
          (/** @type {Plot} */ plot) => (this.#at.value = plot.cursor.left >= 0 ? (plot.cursor.idx ?? null) : null),
        ],
      },
      scales: {
        x: { time: true, range: () => this.#spanSeconds },
        // Whole numbers, and never a line at the bottom that looks as if it were at the top.
        y: {
          range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number | null} */ max) => [
            0,
            Math.max(1, (max ?? 0) * 1.1),
          ],
        },
      },
      axes: [
        {
          ...axis,
          space: 64,
          size: 24,
          values: (/** @type {any} */ _, /** @type {number[]} */ times) =>
            times.map((seconds) => timeOfDay(seconds * 1000).slice(0, 5)),
        },
        {
          ...axis,
          space: 28,
          size: AXIS_WIDTH,
          incrs: [
            ...(key === "queued" ? [] : [0.2, 0.5]),
            1,
            2,
            5,
            10,
            20,
            50,
            100,
            200,
            500,
            1000,
            2000,
            5000,
            10_000,
            50_000,
            100_000,
          ],
          values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map(rateText),
        },
      ],
      series: [
        {},
        {
          stroke: () => style.color,
          fill: () => style.outlineColor,
          width: 1.5,
          points: { show: false },
          spanGaps: false,
        },
      ],
    };
  }
}

/** @param {Series} series */
function table(series) {
  const count = series.atMs.length;
  const every = Math.max(1, Math.ceil(count / MAX_TABLE_ROWS));
  const indices = Array.from({ length: Math.floor((count + every - 1) / every) }, (_, row) => count - 1 - row * every);
  const cell = (/** @type {number | null} */ value) => (value === null ? "–" : rateText(value));
  return scrollRegion(
    "The charts as a table",
    html`<table class="rows numbers">
      <thead>
        <tr>
          <th scope="col">Time</th>
          ${CHARTS.map(([, name]) => html`<th scope="col" class="number">${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${indices.map(
          (index) =>
            html`<tr>
              <th scope="row">${timeAt(new Date(series.atMs[index]).toISOString())}</th>
              ${CHARTS.map(([key, name]) => html`<td class="number" data-name=${name}>${cell(series[key][index])}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>`,
  );
}
