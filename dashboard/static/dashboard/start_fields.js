// The fields of a form for the parameters of a workflow, made of their JSON Schema, and the values that its texts mean.

import { counted } from "./format.js";

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {"text" | "integer" | "number" | "boolean" | "enum" | "json"} kind
 * @property {any} schema Without null.
 * @property {string} type The type in words.
 * @property {string} description
 * @property {boolean} isRequired
 * @property {boolean} isNullable
 * @property {unknown} default Undefined if there is none.
 * @property {unknown[]} options Of an enum.
 * @property {boolean} isSecret Whether its value must not be shown, nor be in an address.
 */

/** @typedef {{value?: unknown, error?: string}} Parsed Neither: the parameter is left out. */

const INTEGER = /^[+-]?\d+$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const TRUE_FALSE = [true, false];
const INEXACT = "A browser cannot send so large a number exactly: use the command";

/** Return the fields of the parameters. @param {any} parameters The schema of all. @returns {Field[]} */
export function fieldsOf(parameters) {
  const required = new Set(parameters.required ?? []);
  return Object.entries(parameters.properties ?? {}).map(([name, schema]) =>
    fieldOf(name, schema, parameters.$defs ?? {}, required.has(name)),
  );
}

/** Whether the workflow accepts parameters that it does not name. @param {any} parameters */
export function acceptsOthers(parameters) {
  return parameters.additionalProperties !== false;
}

/** @param {string} name @param {any} given @param {Record<string, any>} classes @param {boolean} isRequired @returns {Field} */
function fieldOf(name, given, classes, isRequired) {
  const resolved = resolve(given, classes);
  const choices = (resolved.anyOf ?? [resolved]).map((/** @type {any} */ each) => resolve(each, classes));
  const others = choices.filter((/** @type {any} */ each) => each.type !== "null" && each.const !== null);
  const isNullable = others.length < choices.length;
  const schema =
    others.length === 1 ? others[0] : isDecimal(others) ? { type: "string" } : { ...resolved, anyOf: others };
  const options = schema.enum ?? (schema.type === "boolean" ? TRUE_FALSE : []);
  const kind = kindOf(schema);
  return {
    name,
    kind,
    schema,
    type: typeInWords(schema, kind) + (isNullable ? ", or nothing" : ""),
    description: given.description ?? "",
    isRequired,
    isNullable,
    default: "default" in given ? given.default : undefined,
    options,
    isSecret: given.writeOnly === true,
  };
}

/** @param {any} schema @param {Record<string, any>} classes */
function resolve(schema, classes) {
  const name = typeof schema?.$ref === "string" ? schema.$ref.replace("#/$defs/", "") : "";
  return name in classes ? { ...classes[name], ...schema } : (schema ?? {});
}

/** A decimal number may be written as a text. @param {any[]} schemas */
function isDecimal(schemas) {
  return schemas.length === 2 && schemas[0].type === "number" && schemas[1].type === "string";
}

/** @param {any} schema @returns {Field["kind"]} */
function kindOf(schema) {
  if (Array.isArray(schema.enum)) return "enum";
  if (schema.type === "string") return "text";
  if (schema.type === "integer" || schema.type === "number" || schema.type === "boolean") return schema.type;
  return "json";
}

/** @type {Record<string, string>} */
const TEXTS = { date: "date", "date-time": "date and time", time: "time", uuid: "UUID", duration: "duration" };
/** @type {Record<string, string>} */
const STRUCTURES = { array: "JSON list", object: "JSON object" };

/** @param {any} schema @param {Field["kind"]} kind */
function typeInWords(schema, kind) {
  if (kind === "enum") return "one of these";
  if (kind === "boolean") return "yes or no";
  if (kind === "text") return TEXTS[schema.format] ?? "text";
  if (kind === "json") return STRUCTURES[schema.type] ?? "JSON";
  const word = kind === "integer" ? "whole number" : "number";
  const { minimum, maximum } = schema;
  if (minimum !== undefined && maximum !== undefined) return `${word} from ${minimum} to ${maximum}`;
  if (minimum !== undefined) return `${word}, at least ${minimum}`;
  return maximum === undefined ? word : `${word}, at most ${maximum}`;
}

/** Return the text of a value in a field. @param {Field} field @param {unknown} value */
export function textOf(field, value) {
  if (value === undefined) return "";
  return field.kind === "text" && typeof value === "string" ? value : JSON.stringify(value);
}

/** Return what a text in a field means. @param {Field} field @param {string} text @returns {Parsed} */
export function parse(field, text) {
  const trimmed = text.trim();
  if (trimmed === "") {
    if (!field.isRequired) return {};
    return field.isNullable ? { value: null } : { error: "A value is required" };
  }
  if (field.kind === "text") return checkedText(field, text);
  if (field.kind === "integer" || field.kind === "number") return checkedNumber(field, trimmed);
  if (field.options.length) return chosen(field, trimmed);
  let isExact = true;
  // Browsers that do not give the source of a number send it as they have read it.
  const check = (/** @type {string} */ _, /** @type {unknown} */ value, /** @type {any} */ context) => {
    const isRounded = INTEGER.test(context?.source ?? "") && !Number.isSafeInteger(value);
    if (typeof value === "number" && (isRounded || !Number.isFinite(value))) isExact = false;
    return value;
  };
  try {
    const value = JSON.parse(trimmed, /** @type {any} */ (check));
    return isExact ? checkedJson(field, value) : { error: INEXACT };
  } catch (error) {
    return { error: `This is not JSON: ${/** @type {Error} */ (error).message}` };
  }
}

/** Return the option that a text means: its JSON or, in an address, the text itself. @param {Field} field @param {string} text @returns {Parsed} */
function chosen({ options }, text) {
  const value = options.find((each) => text === JSON.stringify(each) || text === each);
  return value === undefined ? { error: `${text} cannot be chosen` } : { value };
}

/** @param {Field} field @param {string} text @returns {Parsed} */
function checkedText({ schema, type }, text) {
  const { minLength, maxLength, pattern } = schema;
  const { length } = [...text];
  if (minLength !== undefined && length < minLength) return { error: `At least ${counted(minLength, "character")}` };
  if (maxLength !== undefined && length > maxLength)
    return { error: `At most ${counted(maxLength, "character")}, not ${length}` };
  if (pattern && !matches(pattern, text))
    return {
      error: type === "text" ? `The text must match ${pattern}` : `Write a ${type}${EXAMPLES[schema.format] ?? ""}`,
    };
  return { value: text };
}

/** @type {Record<string, string>} */
const EXAMPLES = {
  date: ", such as 2026-01-31",
  "date-time": ", such as 2026-01-31T09:30:00Z",
  time: ", such as 09:30:00",
  duration: ", such as PT90S",
  uuid: ", such as 123e4567-e89b-12d3-a456-426614174000",
};

/** @param {string} pattern @param {string} text */
function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    // A pattern of Python that JavaScript does not know: the server checks it.
    return true;
  }
}

/** @param {Field} field @param {string} text @returns {Parsed} */
function checkedNumber({ kind, schema, type }, text) {
  if (!(kind === "integer" ? INTEGER : NUMBER).test(text)) return { error: `Write a ${type}` };
  const value = Number(text);
  if (kind === "integer" ? !Number.isSafeInteger(value) : !Number.isFinite(value)) return { error: INEXACT };
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
  if (minimum !== undefined && value < minimum) return { error: `At least ${minimum}` };
  if (maximum !== undefined && value > maximum) return { error: `At most ${maximum}` };
  if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) return { error: `More than ${exclusiveMinimum}` };
  if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) return { error: `Less than ${exclusiveMaximum}` };
  if (multipleOf !== undefined && kind === "integer" && value % multipleOf !== 0)
    return { error: `A multiple of ${multipleOf}` };
  return { value };
}

/** @param {Field} field @param {any} value @returns {Parsed} */
function checkedJson({ kind, schema }, value) {
  if (kind !== "json") return { value };
  const isList = Array.isArray(value);
  if (schema.type === "array" && !isList) return { error: 'Write a list in JSON, such as [1, 2] or ["a", "b"]' };
  if (schema.type === "object" && (isList || value === null || typeof value !== "object"))
    return { error: 'Write an object in JSON, such as {"name": "value"}' };
  if (schema.minItems !== undefined && value.length < schema.minItems)
    return { error: `At least ${counted(schema.minItems, "item")}` };
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    return { error: `At most ${counted(schema.maxItems, "item")}` };
  const missing = (schema.required ?? []).filter(
    (/** @type {string} */ name) => schema.type === "object" && !(name in value),
  );
  if (missing.length) return { error: `The object lacks ${missing.join(", ")}` };
  return { value };
}
