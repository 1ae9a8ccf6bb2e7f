// Small charts of one line: what was, how much at most, and how much now.

import { number } from "./format.js";
import { html, svg } from "./lib.js";

const WIDTH = 100;
const HEIGHT = 24;
const PADDING = 1.5;

/**
 * @param {readonly (number | null)[]} values Evenly spaced, the newest last; null where nothing is known.
 * @param {string} name What they are.
 * @param {string} colour The class of a status.
 */
export function sparkline(values, name, colour) {
  const known = /** @type {number[]} */ (values.filter((value) => value !== null));
  const max = Math.max(1, ...known);
  const last = known.at(-1);
  const label =
    last === undefined
      ? `${name}: nothing is known of the last hour`
      : `${name} in the last hour: ${rateText(last)} now, ${rateText(Math.max(...known))} at most`;
  const { line, area } = pathsOf(values, max);
  return html`<svg
    class="sparkline ${colour}"
    role="img"
    aria-label=${label}
    viewBox="0 0 ${WIDTH} ${HEIGHT}"
    preserveAspectRatio="none"
  >
    <title>${label}</title>
    ${svg`<path class="base" d="M0 ${HEIGHT - 0.5}H${WIDTH}"></path><path class="area" d=${area}></path><path class="stroke" d=${line}></path>`}
  </svg>`;
}

/** @param {readonly (number | null)[]} values @param {number} max */
function pathsOf(values, max) {
  const step = WIDTH / Math.max(1, values.length - 1);
  const parts = /** @type {[number, string][][]} */ ([]);
  let part = /** @type {[number, string][]} */ ([]);
  values.forEach((value, index) => {
    if (value === null) part = [];
    else {
      if (part.length === 0) parts.push(part);
      part.push([
        index * step,
        `${(index * step).toFixed(1)} ${(HEIGHT - PADDING - (value / max) * (HEIGHT - 2 * PADDING)).toFixed(1)}`,
      ]);
    }
  });
  const line = parts.map((points) => `M${points.map(([, point]) => point).join("L")}`).join("");
  const area = parts
    .filter((points) => points.length > 1)
    .map(
      (points) =>
        `M${points[0][0].toFixed(1)} ${HEIGHT}L${points.map(([, point]) => point).join("L")}L${points[points.length - 1][0].toFixed(1)} ${HEIGHT}Z`,
    )
    .join("");
  return { line, area };
}

/** Return a rate: `0.4`, `3`, `1,204`. @param {number} value */
export const rateText = (value) =>
  value > 0 && value < 10 && !Number.isInteger(value) ? value.toFixed(1) : number(Math.round(value));
