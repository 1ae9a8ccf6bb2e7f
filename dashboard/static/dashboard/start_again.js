// The form that starts a run again: its address, with the values of the run as far as they fit in it.

import { client } from "./connection.js";
import { signal } from "./lib.js";
import { Refresher } from "./refresher.js";
import { urlOf } from "./routes.js";
import { acceptsOthers, fieldsOf, parse, textOf } from "./start_fields.js";
import { LEFT_OUT, MAX_ADDRESS_CHARACTERS, othersField, POOL, PROMPT } from "./start_form.js";

/** @typedef {import("mahavishnu-client").Run} Run */
/** @typedef {import("./start_form.js").Definition} Definition */

/** Proxies and servers accept addresses of this length. */
const MAX_QUERY_CHARACTERS = 6_000;

const definitions = signal(/** @type {Definition[] | null} */ (null));
const reader = new Refresher(async () => {
  definitions.value = /** @type {Definition[]} */ ((await client.listDefinitions()).definitions);
}, 0);
let isAsked = false;

/**
 * Return the address of the form, and the names of the values that it leaves out. Null if the workflow of the run is
 * not defined here, or as long as that is not known.
 * @param {Run} run
 * @returns {{url: string, leftOut: string[]} | null}
 */
export function startAgain(run) {
  if (!isAsked) reader.want();
  isAsked = true;
  const definition = definitions.value?.find(({ name }) => name === run.name);
  return definition ? addressOf(run, definition) : null;
}

/** @param {Run} run @param {Definition} definition */
function addressOf(run, definition) {
  /** @type {Record<string, string>} */
  const query = {};
  /** @type {string[]} */
  const leftOut = [];
  for (const [name, text] of textsOf(run, definition)) {
    const isSmall = text !== null && text.length <= MAX_ADDRESS_CHARACTERS;
    if (isSmall && new URLSearchParams({ ...query, [name]: text }).toString().length <= MAX_QUERY_CHARACTERS)
      query[name] = text;
    else leftOut.push(name);
  }
  if (leftOut.length) query[LEFT_OUT] = leftOut.join(",");
  return { url: urlOf(`start/${encodeURIComponent(definition.name)}`, query), leftOut };
}

/**
 * Return the fields of the form that are not as in an empty one, with their text: null if no text has that meaning.
 * @param {Run} run @param {Definition} definition
 * @returns {[string, string | null][]}
 */
function textsOf(run, definition) {
  /** @type {[string, string | null][]} */
  const texts = [];
  const fields = fieldsOf(definition.parameters);
  for (const field of fields) {
    const { name } = field;
    // The server leaves out large parameters, or a part of them.
    if (!(name in run.params)) {
      if (run.truncated) texts.push([name, null]);
    } else if (field.isSecret) {
      if (run.params[name]) texts.push([name, null]);
    } else if (!isSame(run.params[name], field.default)) {
      const text = textOf(field, run.params[name]);
      const isWhole = !run.truncated || ["number", "boolean"].includes(typeof run.params[name]);
      texts.push([name, isWhole && isSame(parse(field, text).value, run.params[name]) ? text : null]);
    }
  }
  const others = Object.entries(run.params).filter(([name]) => !fields.some((field) => field.name === name));
  if (others.length) {
    const isKnown = acceptsOthers(definition.parameters) && !run.truncated;
    texts.push([othersField(fields).name, isKnown ? JSON.stringify(Object.fromEntries(others)) : null]);
  }
  if (run.pool_id) texts.push([POOL, run.pool_id]);
  if (run.prompt) texts.push([PROMPT, run.truncated && run.prompt.endsWith("…") ? null : run.prompt]);
  return texts;
}

/** @param {unknown} one @param {unknown} other */
const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);
