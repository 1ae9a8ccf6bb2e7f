// The form of an answer, or of a signal: what is typed, what is wrong with it, and what the server refuses.

import { Problem, operate } from "./api.js";
import { shown, timeOfDay } from "./format.js";
import { signal } from "./lib.js";
import { fieldsOf, parse } from "./start_fields.js";

/** @typedef {import("mahavishnu-client").OpenWait} OpenWait */
/** @typedef {import("./start_fields.js").Field} Field */

/** The refusals after which no answer can be given. */
const FINAL = ["ALREADY_ANSWERED", "WAIT_EXPIRED", "WAIT_CLOSED"];
/** The answer as a whole, if its schema has no fields. No field has a hyphen. */
const WHOLE = "whole-answer";
const ANSWER_PATH = /^body\.(?:answer|payload)\.?/;

/** @param {any} schema @returns {Field} */
const wholeField = (schema) => ({
  name: WHOLE,
  kind: "json",
  schema,
  type: 'JSON, such as true, "yes" or {"amount": 5}',
  description: "",
  isRequired: false,
  isNullable: true,
  default: undefined,
  options: [],
  isSecret: false,
});

let forms = 0;

export class AnswerForm {
  prefix = `answer-${++forms}-`;
  errors = signal(/** @type {Record<string, string>} */ ({}));
  /** What is wrong with the whole, or why no answer can be given. */
  problem = signal("");
  isSending = signal(false);
  /** Whether the server has taken the answer. */
  isSent = signal(false);
  /** Whether the wait has ended without this answer. */
  isOver = signal(false);
  #texts = signal(/** @type {Record<string, string>} */ ({}));

  /** @param {string} workflowId @param {OpenWait} wait */
  constructor(workflowId, wait) {
    this.workflowId = workflowId;
    this.wait = wait;
    const fields = fieldsOf(wait.schema);
    /** @type {Field | null} */
    this.whole = fields.length ? null : wholeField(wait.schema);
    this.fields = this.whole ? [this.whole] : fields;
  }

  /** Whether it stays after its wait has ended: what was typed, and a refusal, until they are read. */
  get isKept() {
    return this.isOver.value || this.isSending.value || (!this.isSent.value && this.#isTyped());
  }

  #isTyped() {
    return Object.values(this.#texts.value).some((text) => text.trim());
  }

  /** @param {string} name */
  textOf(name) {
    const texts = this.#texts.value;
    return Object.hasOwn(texts, name) ? texts[name] : "";
  }

  /** @param {string} name */
  errorOf(name) {
    const errors = this.errors.value;
    return Object.hasOwn(errors, name) ? errors[name] : "";
  }

  /** @param {string} name @param {string} text */
  change(name, text) {
    this.#texts.value = { ...this.#texts.value, [name]: text };
    if (this.errorOf(name)) this.errors.value = { ...this.errors.value, [name]: "" };
  }

  /** Send what is typed, unless it is wrong. */
  async send() {
    if (this.isSending.peek() || this.isSent.peek() || this.isOver.peek()) return;
    this.problem.value = "";
    const value = this.#value();
    if (value === undefined) return;
    this.isSending.value = true;
    const { wait_id, kind, name } = this.wait;
    const of = `workflows/${this.workflowId}`;
    try {
      if (kind === "signal") await operate(`${of}/signals/${encodeURIComponent(name)}`, { payload: value });
      else await operate(`${of}/waits/${encodeURIComponent(name)}/answer`, { answer: value, wait_id });
      this.isSent.value = true;
    } catch (error) {
      if (error instanceof Problem) this.#refuse(error);
      else this.problem.value = "No answer from the server. Send it again: only the first answer counts.";
    }
    this.isSending.value = false;
  }

  /** Return what is typed as JSON data; undefined if a field is wrong. @returns {unknown} */
  #value() {
    /** @type {Record<string, string>} */
    const errors = {};
    /** @type {[string, unknown][]} */
    const values = [];
    for (const field of this.fields) {
      const { value, error } = parse(field, this.textOf(field.name));
      if (error) errors[field.name] = error;
      else if (value !== undefined) values.push([field.name, value]);
    }
    this.errors.value = errors;
    if (Object.keys(errors).length) return undefined;
    return this.whole ? (values[0]?.[1] ?? null) : Object.fromEntries(values);
  }

  /** Show why the server has refused it, at the field that it names. @param {Problem} problem */
  #refuse(problem) {
    this.isOver.value = FINAL.includes(problem.code);
    /** @type {Record<string, string>} */
    const errors = {};
    for (const { path, detail } of problem.errors) {
      const inside = path.replace(ANSWER_PATH, "");
      const name = this.whole?.name ?? inside.split(/[.[]/, 1)[0];
      if (ANSWER_PATH.test(path) && this.fields.some((field) => field.name === name))
        errors[name] = inside && inside !== name ? `${inside}: ${detail}` : detail;
    }
    this.errors.value = errors;
    if (Object.keys(errors).length === 0) this.problem.value = wordsOf(problem);
  }
}

/** @param {Problem} problem */
function wordsOf({ code, answered, message }) {
  if (code === "ALREADY_ANSWERED" && answered)
    return `${answered.by ? shown(answered.by) : "Someone"} has answered first, at ${timeOfDay(answered.at)}.`;
  if (code === "WAIT_EXPIRED") return "The time for an answer is over.";
  if (code === "WAIT_CLOSED")
    return "Nothing waits for this answer now: the workflow has ended, or was run again after this question.";
  return shown(message);
}
