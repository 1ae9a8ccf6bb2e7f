// How the form that starts a workflow looks.

import { area, described, fieldRow, inputOf, line, placeholderOf } from "./field_inputs.js";
import { shown } from "./format.js";
import { html } from "./lib.js";
import { command, copyButton, when } from "./parts.js";
import { ID, POOL, PROMPT } from "./start_form.js";

/** @typedef {import("./start_form.js").StartForm} StartForm */

const PROMPT_HINT = "What the run is for. It is shown with the run.";
const ID_HINT = "A second start with the same id returns the same run.";

/** @param {StartForm} form */
export function formView(form) {
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const element = /** @type {HTMLFormElement} */ (event.currentTarget);
    await form.start();
    requestAnimationFrame(() =>
      /** @type {HTMLElement | null} */ (element.querySelector('[aria-invalid="true"]'))?.focus(),
    );
  };
  const hasMore = [POOL, ID].some((name) => form.textOf(name) || form.errorOf(name));
  const { leftOut } = form;
  return html`<form class="start" novalidate autocomplete="off" @submit=${submit}>
      ${when(
        leftOut.length > 0,
        html`<p class="banner waiting" role="status">
          These values of the run are secret, or a link has no room for them, so they are not filled in:
          ${leftOut.map((name, index) => html`${index ? ", " : ""}<code>${shown(name)}</code>`)}. The page of the run
          has them, except secrets, on its tab Data.
        </p>`,
      )}
      ${form.fields.map((field) => fieldRow(form, field.name, { type: field.type, text: field.description, isRequired: field.isRequired, input: inputOf(form, field) }))}
      ${form.others ? fieldRow(form, form.others.name, { label: "Other parameters", type: "JSON object", text: "It accepts parameters that it does not name.", input: area(form, form.others.name, '{"name": "value"}', true) }) : ""}
      ${fieldRow(form, PROMPT, { label: "Prompt", text: PROMPT_HINT, input: area(form, PROMPT, "", false) })}
      <details class="optional" ?open=${hasMore}>
        <summary>More</summary>
        ${fieldRow(form, POOL, { label: "Pool", text: "Which workers run it.", input: poolInput(form) })}
        ${fieldRow(form, ID, { label: "Id of the run", text: ID_HINT, input: line(form, ID, "generated") })}
      </details>
      ${when(form.problem.value, html`<p class="banner failure" role="alert">${form.problem.value}</p>`)}
      <p class="buttons">
        <button class="primary" ?disabled=${form.isStarting.value}>
          ${form.isStarting.value ? "Starting…" : "Start"}
        </button>
        <span class="muted"
          >The address keeps what you fill in: copy it as a
          <span class="together">link. ${copyButton(new URL(form.url(), location.href).href, "the link")}</span></span
        >
      </p>
    </form>
    <p class="or muted">In a terminal:</p>
    ${commandView(form)}`;
}

/** @param {StartForm} form */
function poolInput(form) {
  const chosen = form.textOf(POOL);
  const pools = [...new Set([...(chosen ? [chosen] : []), ...form.pools.value])];
  return html`<select
    id="field-${POOL}"
    aria-invalid=${form.errorOf(POOL) ? "true" : "false"}
    aria-describedby=${described(form, POOL)}
    @change=${(/** @type {any} */ event) => form.change(POOL, event.target.value)}
  >
    <option value="" ?selected=${chosen === ""}>that of its definition (default)</option>
    ${pools.map((pool) => html`<option value=${pool} ?selected=${pool === chosen}>${shown(pool)}</option>`)}
  </select>`;
}

/** @param {StartForm} form */
function commandView(form) {
  const text = commandOf(form);
  return command(text);
}

/** The command that starts the same. @param {StartForm} form */
function commandOf(form) {
  const quoted = (/** @type {string} */ text) =>
    /^[\w./:=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
  const params = form.fields
    .filter((field) => form.textOf(field.name))
    .map((field) => `--param ${quoted(`${field.name}=${field.isSecret ? "***" : form.textOf(field.name)}`)}`);
  const others = Object.entries(form.otherParameters()).map(
    ([name, value]) => `--param ${quoted(`${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)}`,
  );
  const options = [
    [PROMPT, "--prompt"],
    [POOL, "--pool"],
  ]
    .filter(([name]) => form.textOf(name))
    .map(([name, option]) => `${option}=${quoted(form.textOf(name))}`);
  return ["python manage.py run_workflow", quoted(form.definition.name), ...params, ...others, ...options].join(" ");
}

/** @param {StartForm} form */
export function parametersOf(form) {
  if (form.fields.length === 0) return html`<p>It has no parameters.</p>`;
  return html`<table class="rows" aria-label="Parameters">
    <thead>
      <tr>
        <th scope="col">Parameter</th>
        <th scope="col">Accepts</th>
        <th scope="col">Default</th>
        <th scope="col" class="wide">Meaning</th>
      </tr>
    </thead>
    <tbody>
      ${form.fields.map(
        (field) =>
          html`<tr>
            <td class="title"><code>${shown(field.name)}</code></td>
            <td>${field.type}</td>
            <td>${field.isRequired ? "required" : placeholderOf(field)}</td>
            <td class="wide">${shown(field.description)}</td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}
