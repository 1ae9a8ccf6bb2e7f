// The libraries of the pages, by the names that the pages use. `vendor/` has them unchanged.

export { html, nothing, render, svg } from "./vendor/lit-html/lit-html.js";
export { repeat } from "./vendor/lit-html/directives/repeat.js";
export { batch, computed, effect, signal, untracked } from "./vendor/signals-core/signals-core.js";
