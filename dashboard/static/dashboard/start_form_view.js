// How the form that starts a workflow looks.

import { shown } from "./format.js";
import { html } from "./lib.js";
import { command, copyButton, when } from "./parts.js";
import { textOf } from "./start_fields.js";
import { ID, POOL, PROMPT } from "./start_form.js";

/** @typedef {import("./start_form.js").StartForm} StartForm */
/** @typedef {import("./start_fields.js").Field} Field */

/** Return a text of a docstring, with what is between backticks as code. @param {string} text */
export const withCode = (text) =>
  text.split("`").map((part, index) => (index % 2 ? html`<code>${shown(part)}</code>` : shown(part)));

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
      ${form.fields.map((field) => row(form, field.name, { type: field.type, text: field.description, isRequired: field.isRequired, input: inputOf(form, field) }))}
      ${form.others ? row(form, form.others.name, { label: "Other parameters", type: "JSON object", text: "It accepts parameters that it does not name.", input: area(form, form.others.name, '{"name": "value"}', true) }) : ""}
      ${row(form, PROMPT, { label: "Prompt", text: PROMPT_HINT, input: area(form, PROMPT, "", false) })}
      <details class="optional" ?open=${hasMore}>
        <summary>More</summary>
        ${row(form, POOL, { label: "Pool", text: "Which workers run it.", input: poolInput(form) })}
        ${row(form, ID, { label: "Id of the run", text: ID_HINT, input: line(form, ID, "generated") })}
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

/**
 * A label, an input, and what is wrong with it.
 * @param {StartForm} form @param {string} name
 * @param {{label?: string, type?: string, text?: string, isRequired?: boolean, input: unknown}} options
 */
function row(form, name, { label, type = "", text = "", isRequired = false, input }) {
  const error = form.errorOf(name);
  return html`<div class="row">
    <label for="field-${name}"
      >${label ?? html`<code>${shown(name)}</code>`}${when(isRequired, html` <span class="required" title="Required">*<span class="spoken"> required</span></span>`)}</label
    >
    <div class="value">
      ${input}
      <p class="hint muted" id="hint-${name}">${type}${type && text ? " · " : ""}${withCode(text)}</p>
      ${when(error, html`<p class="wrong failure" id="wrong-${name}"><span aria-hidden="true">✕</span> ${error}</p>`)}
    </div>
  </div>`;
}

/** @param {StartForm} form @param {Field} field */
function inputOf(form, field) {
  const { name } = field;
  const placeholder = placeholderOf(field);
  if (field.isSecret) return line(form, name, placeholder, "text", "password");
  if (field.kind === "enum" || field.kind === "boolean") return choice(form, field);
  if (field.kind === "json") return area(form, name, placeholder, true);
  return line(
    form,
    name,
    placeholder,
    field.kind === "text" ? "text" : field.kind === "integer" ? "numeric" : "decimal",
  );
}

/** @param {Field} field */
function placeholderOf(field) {
  if (field.default === undefined) return field.isRequired ? "" : "not set";
  return field.default === null ? "nothing" : shown(textOf(field, field.default)) || "empty";
}

/** @param {StartForm} form @param {string} name */
const described = (form, name) => `hint-${name}${form.errorOf(name) ? ` wrong-${name}` : ""}`;

/** @param {StartForm} form @param {string} name @param {string} placeholder @param {string} [mode] @param {string} [type] */
function line(form, name, placeholder, mode = "text", type = "text") {
  return html`<input
    id="field-${name}"
    type=${type}
    autocomplete=${type === "password" ? "new-password" : "off"}
    inputmode=${mode}
    spellcheck="false"
    autocapitalize="off"
    placeholder=${placeholder}
    .value=${form.textOf(name)}
    aria-invalid=${form.errorOf(name) ? "true" : "false"}
    aria-describedby=${described(form, name)}
    @input=${(/** @type {any} */ event) => form.change(name, event.target.value)}
  />`;
}

/** @param {StartForm} form @param {string} name @param {string} placeholder @param {boolean} isCode */
function area(form, name, placeholder, isCode) {
  return html`<textarea
    id="field-${name}"
    class=${isCode ? "id" : ""}
    rows=${isCode ? 4 : 2}
    spellcheck=${isCode ? "false" : "true"}
    placeholder=${placeholder}
    .value=${form.textOf(name)}
    aria-invalid=${form.errorOf(name) ? "true" : "false"}
    aria-describedby=${described(form, name)}
    @input=${(/** @type {any} */ event) => form.change(name, event.target.value)}
  ></textarea>`;
}

/** @param {StartForm} form @param {Field} field */
function choice(form, field) {
  const { name, options } = field;
  const word = (/** @type {unknown} */ value) =>
    value === true ? "yes" : value === false ? "no" : value === null ? "nothing" : shown(value);
  const chosen = form.textOf(name);
  const empty =
    field.default !== undefined
      ? `${word(field.default)} (default)`
      : field.isRequired && !field.isNullable
        ? "Choose"
        : "not set";
  return html`<select
    id="field-${name}"
    aria-invalid=${form.errorOf(name) ? "true" : "false"}
    aria-describedby=${described(form, name)}
    @change=${(/** @type {any} */ event) => form.change(name, event.target.value)}
  >
    <option value="" ?selected=${chosen === ""}>${empty}</option>
    ${options.map((value) => html`<option value=${JSON.stringify(value)} ?selected=${chosen === JSON.stringify(value) || chosen === value}>${word(value)}</option>`)}
  </select>`;
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
