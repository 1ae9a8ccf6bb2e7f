// How the form of an answer is shown.

import { fieldRow, inputOf } from "./field_inputs.js";
import { html } from "./lib.js";
import { when } from "./parts.js";

const HAS_ENDED =
  "This can no longer be sent: it was answered elsewhere, its time is over, or its workflow has gone on.";

/**
 * @param {import("./answer_form.js").AnswerForm} form
 * @param {{hasEnded: boolean, dismiss: () => void}} options Whether the wait has ended; and what removes the form then.
 */
export function answerFormView(form, { hasEnded, dismiss }) {
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const element = /** @type {HTMLFormElement} */ (event.currentTarget);
    await form.send();
    requestAnimationFrame(() =>
      /** @type {HTMLElement | null} */ (element.querySelector('[aria-invalid="true"]'))?.focus(),
    );
  };
  const endedElsewhere = hasEnded && !form.isOver.value && !form.isSending.value && !form.isSent.value;
  const isOver = form.isOver.value || endedElsewhere;
  const problem = endedElsewhere ? HAS_ENDED : form.problem.value;
  const isDone = isOver || form.isSent.value;
  const word = form.wait.kind === "signal" ? "Send the signal" : "Answer";
  return html`<form class="start answer" novalidate autocomplete="off" @submit=${submit}>
    <fieldset ?disabled=${isDone}>
      ${form.fields.map((field) =>
        fieldRow(form, field.name, {
          label: form.whole ? word : undefined,
          type: field.type,
          text: field.description,
          isRequired: field.isRequired,
          input: inputOf(form, field),
        }),
      )}
    </fieldset>
    ${when(problem, html`<p class="wrong failure" role="alert"><span aria-hidden="true">✕</span> ${problem}</p>`)}
    <p class="buttons">
      ${
        isOver
          ? html`<button type="button" @click=${dismiss}>Dismiss</button>`
          : html`<button class="primary" ?disabled=${isDone || form.isSending.value}>
              ${form.isSent.value ? "Sent" : form.isSending.value ? "Sending…" : word}
            </button>`
      }
    </p>
  </form>`;
}
