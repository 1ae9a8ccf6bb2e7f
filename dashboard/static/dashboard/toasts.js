// Short messages at the edge of the page. They are spoken, and disappear.

import { draw } from "./frames.js";
import { html, repeat, signal } from "./lib.js";

const SHOWN_MS = 6_000;
const MAX_TOASTS = 4;

/** @typedef {{id: number, text: string, undo?: () => void}} Toast */

const toasts = signal(/** @type {Toast[]} */ ([]));
let lastId = 0;

/** Show a message. @param {string} text @param {{undo?: () => void}} [options] `undo`: what a button "Undo" does. */
export function toast(text, { undo } = {}) {
  const id = ++lastId;
  toasts.value = [...toasts.value, { id, text, undo }].slice(-MAX_TOASTS);
  setTimeout(() => remove(id), SHOWN_MS);
}

/** @param {number} id */
function remove(id) {
  toasts.value = toasts.value.filter((each) => each.id !== id);
}

/** @param {HTMLElement} element */
export function showToasts(element) {
  draw(
    element,
    () =>
      html`${repeat(
        toasts.value,
        (each) => each.id,
        (each) =>
          html`<p class="toast">
            ${each.text}
            ${each.undo ? html`<button type="button" class="link" @click=${() => (remove(each.id), each.undo?.())}>Undo</button>` : ""}
          </p>`,
      )}`,
  );
}
