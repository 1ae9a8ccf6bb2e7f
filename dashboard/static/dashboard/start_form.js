// The form that starts a workflow: what is typed, what is wrong with it, and the request that it becomes.

import { startWorkflow } from "./actions.js";
import { client } from "./connection.js";
import { shown } from "./format.js";
import { signal } from "./lib.js";
import { route, urlOf, goTo } from "./routes.js";
import { acceptsOthers, fieldsOf, parse } from "./start_fields.js";

/** @typedef {{name: string, description: string, adapter: string, parameters: any}} Definition */
/** @typedef {import("./start_fields.js").Field} Field */

/** Names that no parameter may have: `orchestration.sdk.parameters.RESERVED`. `more` holds other parameters. */
export const PROMPT = "prompt";
export const POOL = "pool";
export const ID = "workflow_id";
const OTHERS = "more";
/** The names of the fields whose values did not fit in the link that led here. No parameter has a hyphen. */
export const LEFT_OUT = "left-out";

const ADDRESS_PAUSE_MS = 300;
/** What is longer is not kept in the address. */
export const MAX_ADDRESS_CHARACTERS = 2_000;
const ID_PATTERN = /^[A-Za-z0-9._-]{1,128}$/;

/** @type {Field} */
const OTHERS_FIELD = {
  name: OTHERS,
  kind: "json",
  schema: { type: "object" },
  type: "JSON object",
  description: "",
  isRequired: false,
  isNullable: false,
  default: undefined,
  options: [],
  isSecret: false,
};

/** Return the field for the parameters that have no separate field. @param {Field[]} fields @returns {Field} */
export function othersField(fields) {
  return { ...OTHERS_FIELD, name: fields.some((field) => field.name === OTHERS) ? "_more" : OTHERS };
}

/** Return a value by its name, which may be that of a property of every object, such as `constructor`. @param {Record<string, string>} values @param {string} name */
const valueOf = (values, name) => (Object.hasOwn(values, name) ? values[name] : "");

export class StartForm {
  prefix = "";
  /** What is typed, by the name of its field. */
  texts;
  errors = signal(/** @type {Record<string, string>} */ ({}));
  /** What is wrong with the whole. */
  problem = signal("");
  isStarting = signal(false);
  pools = signal(/** @type {string[]} */ ([]));
  #timer = 0;

  /** @param {Definition} definition */
  constructor(definition) {
    this.definition = definition;
    this.fields = fieldsOf(definition.parameters);
    this.others = acceptsOthers(definition.parameters) ? othersField(this.fields) : null;
    this.texts = signal(/** @type {Record<string, string>} */ (Object.fromEntries(route.peek().query)));
    void this.#readPools();
  }

  close() {
    clearTimeout(this.#timer);
  }

  /** @param {string} name */
  textOf(name) {
    return valueOf(this.texts.value, name);
  }

  /** What is wrong with a field; empty if nothing is known. @param {string} name */
  errorOf(name) {
    return valueOf(this.errors.value, name);
  }

  /** Return the fields whose values did not fit in the link that led here, and that are still empty. */
  get leftOut() {
    const names = [...this.fields.map(({ name }) => name), ...(this.others ? [this.others.name] : []), PROMPT];
    const leftOut = this.textOf(LEFT_OUT).split(",");
    return names.filter((name) => leftOut.includes(name) && !this.textOf(name));
  }

  /** @param {string} name @param {string} text */
  change(name, text) {
    this.texts.value = { ...this.texts.peek(), [name]: text };
    if (this.errorOf(name)) this.errors.value = { ...this.errors.peek(), [name]: "" };
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => goTo(this.url(), { replace: true }), ADDRESS_PAUSE_MS);
  }

  /** Return the address of the form as it is filled in. */
  url() {
    const secrets = this.fields.filter((field) => field.isSecret).map(({ name }) => name);
    const texts = Object.entries(this.texts.peek()).filter(
      ([name, text]) => text.length <= MAX_ADDRESS_CHARACTERS && !secrets.includes(name),
    );
    return urlOf(`start/${encodeURIComponent(this.definition.name)}`, Object.fromEntries(texts));
  }

  /** Return the request that the form is; null if something is wrong, which is shown. @returns {any} */
  request() {
    /** @type {Record<string, string>} */
    const errors = {};
    /** @type {Record<string, unknown>} */
    const params = {};
    for (const field of this.fields) {
      const parsed = parse(field, this.textOf(field.name));
      if (parsed.error) errors[field.name] = parsed.error;
      else if ("value" in parsed) params[field.name] = parsed.value;
    }
    if (this.others) {
      const { value, error } = parse(this.others, this.textOf(this.others.name));
      if (error) errors[this.others.name] = error;
      else Object.assign(params, value);
    }
    const id = this.textOf(ID).trim();
    if (id && !ID_PATTERN.test(id)) errors[ID] = "An id has 1 to 128 of the characters A-Z a-z 0-9 . _ -";
    this.errors.value = errors;
    if (Object.keys(errors).length) return null;
    const pool = this.textOf(POOL);
    return {
      name: this.definition.name,
      prompt: this.textOf(PROMPT),
      params,
      ...(pool ? { pool_id: pool } : {}),
      ...(id ? { workflow_id: id } : {}),
    };
  }

  /** The parameters that the workflow does not name, as far as they can be read. @returns {Record<string, unknown>} */
  otherParameters() {
    const parsed = this.others && parse(this.others, this.textOf(this.others.name));
    return /** @type {any} */ (parsed?.value ?? {});
  }

  async start() {
    if (this.isStarting.peek()) return;
    this.problem.value = "";
    const request = this.request();
    if (!request) return;
    this.isStarting.value = true;
    clearTimeout(this.#timer);
    // Going back from the run shows the form as it was sent.
    goTo(this.url(), { replace: true });
    const problem = await startWorkflow(request);
    this.isStarting.value = false;
    if (problem) this.#show(problem);
  }

  /** Show what the server refuses, at its field if it names one. @param {import("./api.js").Problem} problem */
  #show(problem) {
    /** @type {Record<string, string>} */
    const errors = {};
    for (const { path, detail } of problem.errors) {
      const name = this.#fieldOf(path, detail);
      if (name) errors[name] = sentence(detail, name);
    }
    this.errors.value = errors;
    this.problem.value = Object.keys(errors).length ? "" : shown(problem.message);
  }

  /** Return the field that a path means, such as `body.pool_id`. @param {string} path @param {string} detail */
  #fieldOf(path, detail) {
    const parts = path.split(".");
    const last = parts.at(-1) ?? "";
    const own = { prompt: PROMPT, pool_id: POOL, pool: POOL, workflow_id: ID, key: ID }[last];
    if (own) return own;
    const names = this.fields.map((field) => field.name);
    if (names.includes(last)) return last;
    // `path is 3; expected str`, or `missing a required argument: 'path'`.
    return (
      names.find((name) => detail.startsWith(`${name} is `) || detail.includes(`'${name}'`)) ?? this.others?.name ?? ""
    );
  }

  async #readPools() {
    try {
      const { pools } = await client.listPools({ status: "active", limit: 200 });
      this.pools.value = pools.map((pool) => pool.pool_id);
    } catch {
      // The pool can be typed then.
    }
  }
}

/** @param {string} detail @param {string} name */
function sentence(detail, name) {
  const text = shown(detail.startsWith(`${name} is `) ? detail.slice(name.length + 1) : detail);
  return text[0].toUpperCase() + text.slice(1);
}
