// The inputs of forms that are made of a JSON Schema: a label, the input, what it accepts, and what is wrong with it.

import { shown } from "./format.js";
import { html } from "./lib.js";
import { when } from "./parts.js";
import { textOf } from "./start_fields.js";

/** @typedef {import("./start_fields.js").Field} Field */

/**
 * @typedef {object} FieldForm The texts of a form.
 * @property {string} prefix Begins the ids of its elements, which are unique on a page.
 * @property {(name: string) => string} textOf The text in a field.
 * @property {(name: string) => string} errorOf What is wrong with it; empty if nothing is.
 * @property {(name: string, text: string) => void} change
 */

/** Return a text of a docstring, with what is between backticks as code. @param {string} text */
export const withCode = (text) =>
  text.split("`").map((part, index) => (index % 2 ? html`<code>${shown(part)}</code>` : shown(part)));

/**
 * A label, an input, and what is wrong with it.
 * @param {FieldForm} form @param {string} name
 * @param {{label?: string, type?: string, text?: string, isRequired?: boolean, input: unknown}} options
 */
export function fieldRow(form, name, { label, type = "", text = "", isRequired = false, input }) {
  const error = form.errorOf(name);
  return html`<div class="row">
    <label for="${form.prefix}field-${name}"
      >${label ?? html`<code>${shown(name)}</code>`}${when(isRequired, html` <span class="required" title="Required">*<span class="spoken"> required</span></span>`)}</label
    >
    <div class="value">
      ${input}
      <p class="hint muted" id="${form.prefix}hint-${name}">${type}${type && text ? " · " : ""}${withCode(text)}</p>
      ${when(error, html`<p class="wrong failure" id="${form.prefix}wrong-${name}"><span aria-hidden="true">✕</span> ${withCode(error)}</p>`)}
    </div>
  </div>`;
}

/** @param {FieldForm} form @param {Field} field */
export function inputOf(form, field) {
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
export function placeholderOf(field) {
  if (field.default === undefined) return field.isRequired ? "" : "not set";
  return field.default === null ? "nothing" : shown(textOf(field, field.default)) || "empty";
}

/** @param {FieldForm} form @param {string} name */
export const described = (form, name) =>
  `${form.prefix}hint-${name}${form.errorOf(name) ? ` ${form.prefix}wrong-${name}` : ""}`;

/** @param {FieldForm} form @param {string} name @param {string} placeholder @param {string} [mode] @param {string} [type] */
export function line(form, name, placeholder, mode = "text", type = "text") {
  return html`<input
    id="${form.prefix}field-${name}"
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

/** @param {FieldForm} form @param {string} name @param {string} placeholder @param {boolean} isCode */
export function area(form, name, placeholder, isCode) {
  return html`<textarea
    id="${form.prefix}field-${name}"
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

/** @param {FieldForm} form @param {Field} field */
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
    id="${form.prefix}field-${name}"
    aria-invalid=${form.errorOf(name) ? "true" : "false"}
    aria-describedby=${described(form, name)}
    @change=${(/** @type {any} */ event) => form.change(name, event.target.value)}
  >
    <option value="" ?selected=${chosen === ""}>${empty}</option>
    ${options.map((value) => html`<option value=${JSON.stringify(value)} ?selected=${chosen === JSON.stringify(value) || chosen === value}>${word(value)}</option>`)}
  </select>`;
}
