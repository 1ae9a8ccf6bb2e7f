// What a run asks people, or other systems, now: each with its form.

import { AnswerForm } from "./answer_form.js";
import { answerFormView } from "./answer_form_view.js";
import { serverNow } from "./connection.js";
import { counted, shown, until } from "./format.js";
import { html, repeat, signal } from "./lib.js";
import { timeAgo, when } from "./parts.js";
import { mayOperate } from "./permissions.js";

/** @typedef {import("mahavishnu-client").Run} Run */
/** @typedef {import("mahavishnu-client").OpenWait} OpenWait */

/** The waits that are shown with their forms. */
const MAX_FORMS = 20;
/** How many of them are unfolded from the beginning. */
const MAX_UNFOLDED = 3;

export class OpenWaits {
  /** The forms, by `wait_id`. @type {Map<number, AnswerForm>} */
  #forms = new Map();
  #version = signal(0);

  /** @param {Run} run */
  view(run) {
    this.#version.value;
    const asking = run.stages.filter(({ wait }) => wait && wait.kind !== "sleep");
    const open = new Map(
      asking.map(({ wait }) => [/** @type {OpenWait} */ (wait).wait_id, /** @type {OpenWait} */ (wait)]),
    );
    // The event that a wait has ended may come before the answer to the request.
    for (const [key, form] of this.#forms) if (!open.has(key) && !form.isKept) this.#forms.delete(key);
    for (const [key, wait] of open)
      if (!this.#forms.has(key) && this.#forms.size < MAX_FORMS)
        this.#forms.set(key, new AnswerForm(run.workflow_id, wait));
    const left = [...open.keys()].filter((key) => !this.#forms.has(key)).length;
    return html`${repeat(
      this.#forms,
      ([key]) => key,
      ([key, form], index) => this.#wait(run, form, { hasEnded: !open.has(key), isUnfolded: index < MAX_UNFOLDED }),
    )}${when(left > 0, html`<p class="muted">${counted(left, "further stage")} of this workflow ${left === 1 ? "waits" : "wait"} too: see its timeline.</p>`)}`;
  }

  /** @param {Run} run @param {AnswerForm} form @param {{hasEnded: boolean, isUnfolded: boolean}} options */
  #wait(run, form, { hasEnded, isUnfolded }) {
    const { wait } = form;
    const isSignal = wait.kind === "signal";
    const title = wait.title ? shown(wait.title) : `${shown(wait.name)}${isSignal ? ": waits for this signal" : ""}`;
    return html`<details class="banner waiting asks" ?open=${isUnfolded} aria-label=${title}>
      <summary><strong>${title}</strong></summary>
      <p class="facts">
        <span>${isSignal ? "signal" : "question"} <code>${shown(wait.name)}</code></span>
        ${when(wait.recipients.length > 0, html`<span>for ${wait.recipients.map(shown).join(", ")}</span>`)}
        <span>${isSignal ? "waits since" : "asked"} ${timeAgo(wait.opened_at)}</span>
        ${when(wait.expires_at, html`<span>times out ${until(Date.parse(wait.expires_at ?? ""), serverNow.value)}</span>`)}
      </p>
      ${mayOperate("workflow", run.workflow_id) ? this.#form(form, hasEnded) : html`<p class="muted">Users who may operate this workflow can ${isSignal ? "send it" : "answer"}.</p>`}
    </details>`;
  }

  /** @param {AnswerForm} form @param {boolean} hasEnded */
  #form(form, hasEnded) {
    const dismiss = () => {
      this.#forms.delete(form.wait.wait_id);
      this.#version.value++;
    };
    return answerFormView(form, { hasEnded, dismiss });
  }
}
