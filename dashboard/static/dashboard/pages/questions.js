// The open questions of all runs, with the forms that answer them.

import { AnswerForm } from "../answer_form.js";
import { answerFormView } from "../answer_form_view.js";
import { readsEverything, serverNow } from "../connection.js";
import { counted, nameOf, shown, until } from "../format.js";
import { html, repeat, signal } from "../lib.js";
import { emptyState, loading, refused, runLink, staleness, timeAgo, when } from "../parts.js";
import { mayOperate } from "../permissions.js";
import { MAX_ROWS, QuestionList } from "../question_list.js";
import { changeQuery, route, urlOf } from "../routes.js";

/** @typedef {import("../question_list.js").Question} Question */

/** @returns {import("../main.js").Page} */
export function open() {
  const page = new QuestionPage();
  return { title: () => "Questions", view: () => page.view(), close: () => page.close() };
}

class QuestionPage {
  list = new QuestionList();
  /** The questions whose forms were unfolded, by `wait_id`. @type {Map<number, {row: Question, form: AnswerForm, isOpen: boolean}>} */
  #forms = new Map();
  #version = signal(0);

  close() {
    this.list.close();
  }

  view() {
    this.#version.value;
    this.list.follow();
    const { error, rows } = this.list;
    return html`
      <div class="page-head">
        <h1>Questions</h1>
        ${when(!readsEverything.value && rows.value, html`<button type="button" ?disabled=${this.list.isReading.value} @click=${() => this.list.read()}>Read again</button>`)}
      </div>
      ${recipientFilter()}
      ${error.value ? refused(error.value, "the questions") : rows.value ? this.#questions(rows.value) : loading("the questions")}
    `;
  }

  /** @param {Question[]} open */
  #questions(open) {
    const ended = this.#keptAfterEnd(open);
    const rows = ended.length ? [...open, ...ended].sort(newestFirst) : open;
    const { cursor, isReading } = this.list;
    if (rows.length === 0 && cursor.value === null) return nothingAsked();
    const count = counted(open.length, "open question");
    return html`
      <p class="muted" role="status">${cursor.value ? `The newest ${count}` : count}</p>
      <ul class="questions ${staleness()}">
        ${repeat(
          rows,
          (row) => row.wait_id,
          (row) => this.#question(row, ended.includes(row)),
        )}
      </ul>
      ${
        cursor.value && open.length < MAX_ROWS
          ? html`<p class="more">
              <button type="button" ?disabled=${isReading.value} @click=${() => this.list.readOlder()}>
                Show older questions
              </button>
            </p>`
          : when(cursor.value, html`<p class="muted more">Click on a recipient to see others.</p>`)
      }
    `;
  }

  /**
   * Return the questions that have ended, and whose forms stay until they are dismissed.
   * @param {Question[]} open
   */
  #keptAfterEnd(open) {
    const ids = new Set(open.map((row) => row.wait_id));
    const kept = [];
    for (const [id, { row, form }] of this.#forms) {
      if (ids.has(id)) continue;
      if (!form.isKept) this.#forms.delete(id);
      // A question that is not listed for another reason is still open: its form waits for it.
      else if (this.list.hasRead(row)) kept.push(row);
    }
    return kept;
  }

  /** @param {Question} row @param {boolean} hasEnded */
  #question(row, hasEnded) {
    const id = `question-${row.wait_id}`;
    return html`<li class="banner waiting asks" aria-labelledby=${id}>
      <h2 id=${id}>${shown(row.title || row.name)}</h2>
      <p class="facts">
        <span>${runLink({ workflow_id: row.workflow_id, name: row.workflow_name })}</span>
        <span>stage ${shown(row.stage_name)}</span>
        <span>question <code>${shown(row.name)}</code></span>
        ${when(
          row.recipients.length > 0,
          html`<span
            >for
            ${row.recipients.map((to, index) => html`${index ? ", " : ""}<a href=${urlOf("questions", { to })}>${shown(to)}</a>`)}</span
          >`,
        )}
        <span>asked ${timeAgo(row.opened_at)}</span>
        ${when(row.expires_at, html`<span>times out ${until(Date.parse(row.expires_at ?? ""), serverNow.value)}</span>`)}
      </p>
      ${
        mayOperate("workflow", row.workflow_id)
          ? this.#answer(row, hasEnded)
          : html`<p class="muted">Users who may operate this workflow can answer.</p>`
      }
    </li>`;
  }

  /** @param {Question} row @param {boolean} hasEnded */
  #answer(row, hasEnded) {
    const shownForm = this.#forms.get(row.wait_id);
    const name = shown(row.title || row.name);
    return html`<details
      ?open=${shownForm?.isOpen === true}
      @toggle=${(/** @type {any} */ event) => this.#toggle(row, event.target.open)}
    >
      <summary aria-label="Answer ${name} of ${nameOf({ workflow_id: row.workflow_id, name: row.workflow_name })}">
        Answer
      </summary>
      ${shownForm ? answerFormView(shownForm.form, { hasEnded, dismiss: () => this.#dismiss(row) }) : ""}
    </details>`;
  }

  /** Unfold a form, or fold it: what was typed stays. @param {Question} row @param {boolean} isOpen */
  #toggle(row, isOpen) {
    const earlier = this.#forms.get(row.wait_id);
    if (isOpen === (earlier?.isOpen ?? false)) return;
    const form = earlier?.form ?? new AnswerForm(row.workflow_id, /** @type {any} */ (row));
    this.#forms.set(row.wait_id, { row, form, isOpen });
    this.#version.value++;
  }

  /** @param {Question} row */
  #dismiss(row) {
    this.#forms.delete(row.wait_id);
    this.#version.value++;
  }
}

/** @param {Question} a @param {Question} b */
function newestFirst(a, b) {
  return Date.parse(b.opened_at) - Date.parse(a.opened_at) || b.wait_id - a.wait_id;
}

/** The recipient that the address selects. */
function recipientFilter() {
  const recipient = route.value.query.get("to");
  return when(
    recipient,
    html`<div class="filters">
      <button
        type="button"
        class="chip"
        aria-pressed="true"
        aria-label="Remove the filter to"
        @click=${() => changeQuery({ to: "" })}
      >
        to: ${shown(recipient)} ×
      </button>
    </div>`,
  );
}

function nothingAsked() {
  const recipient = route.value.query.get("to");
  if (recipient)
    return emptyState(
      `No open questions for ${shown(recipient)}`,
      html`<p>A question appears here the moment a workflow asks it.</p>
        <button type="button" @click=${() => changeQuery({ to: "" })}>Show all questions</button>`,
    );
  return emptyState("No open questions", html`<p>A question appears here the moment a workflow asks it.</p>`);
}
