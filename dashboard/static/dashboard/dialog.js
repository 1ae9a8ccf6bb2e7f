// Questions before an operation: what will happen, and a button that says it.

import { html, nothing, render } from "./lib.js";

/**
 * Ask in a modal dialog. Escape and a click beside it are a no.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {unknown} question.text What will happen.
 * @param {string} question.action What the button says.
 * @param {boolean} [question.isDanger]
 * @param {unknown} [question.fields] Inputs of the form.
 * @returns {Promise<FormData | null>} The fields; null for a no.
 */
export function ask({ title, text, action, isDanger = false, fields = nothing }) {
  const dialog = document.createElement("dialog");
  document.body.append(dialog);
  render(
    html`<form method="dialog">
      <h2 id="dialog-title">${title}</h2>
      <div class="text">${text}</div>
      ${fields}
      <div class="buttons">
        <button value="no" formnovalidate>Keep as it is</button>
        <button value="yes" class=${isDanger ? "danger" : "primary"}>${action}</button>
      </div>
    </form>`,
    dialog,
  );
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close("no"));
  // The first button is the safe one: Enter alone changes nothing.
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
      resolve(dialog.returnValue === "yes" ? new FormData(form) : null);
      dialog.remove();
    });
  });
}
