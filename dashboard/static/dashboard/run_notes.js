// What the state of a run does not say of its stages, and its events do: which one has added it, and who has answered
// what it waited for.

import { number, shown, timeOfDay } from "./format.js";

/** @typedef {import("./run_log.js").RunEvent} RunEvent */
/** @typedef {{name: string, kind: string, by: string, at: string, isExpired: boolean}} EndedWait */
/**
 * `kind`: that of its last wait. `onlyWaits`: whether the stage runs no function.
 * @typedef {{addedBy: string, kind: string, waits: EndedWait[], onlyWaits: boolean}} Note
 */

/** The waits of one stage that are shown: the last ones. */
const MAX_WAITS = 3;

/** @type {Readonly<Note>} */
const NOTHING = Object.freeze({ addedBy: "", kind: "", waits: [], onlyWaits: false });

/** @type {Record<string, (note: Note, data: any, at: string) => Partial<Note>>} */
const CHANGES = {
  "workflow.stage_added": (_, { added_by }) => ({ addedBy: added_by ?? "" }),
  "workflow.waiting": (_, { kind }) => ({ kind }),
  "workflow.wait_answered": ({ kind, waits }, { wait_name, by, resumes }, at) => ({
    onlyWaits: !resumes,
    waits: [...waits, { name: wait_name, kind, by, at, isExpired: false }],
  }),
  "workflow.wait_expired": ({ kind, waits }, { wait_name, resumes }, at) => ({
    onlyWaits: !resumes,
    waits: kind === "sleep" ? waits : [...waits, { name: wait_name, kind, by: "", at, isExpired: true }],
  }),
};

/** The stages that it lists run again: who has answered them before is no longer so. */
const RETRIED = "workflow.retried";

/** The names of the events that notes are made of. */
export const NOTE_EVENTS = [...Object.keys(CHANGES), RETRIED];

/**
 * Return what events say of the stages, by the name of the stage.
 *
 * @param {RunEvent[]} events In order; others than `NOTE_EVENTS` are ignored.
 * @returns {Map<string, Note>}
 */
export function notesOf(events) {
  const notes = /** @type {Map<string, Note>} */ (new Map());
  for (const { name, data, timestamp } of events) {
    if (name === RETRIED)
      for (const { stage_name } of data.stages ?? []) {
        const { addedBy } = notes.get(stage_name) ?? NOTHING;
        notes.set(stage_name, { ...NOTHING, addedBy });
      }
    const change = CHANGES[name];
    if (!change) continue;
    const note = notes.get(data.stage_name) ?? NOTHING;
    notes.set(data.stage_name, { ...note, ...change(note, data, timestamp) });
  }
  return notes;
}

/** Who has ended the waits of a stage, and when, in words. @param {Note | undefined} note @param {string} stageName @returns {string[]} */
export function endedWaits(note, stageName) {
  const waits = note?.waits ?? [];
  const words = waits.slice(-MAX_WAITS).map(({ name, kind, by, at, isExpired }) => {
    const of = name === stageName ? "" : `${kind === "signal" ? "signal " : ""}${shown(name)} `;
    if (isExpired) return `${of}timed out at ${timeOfDay(at)}`;
    return `${of}${kind === "signal" ? "sent" : "answered"}${by ? ` by ${shown(by)}` : ""} at ${timeOfDay(at)}`;
  });
  const left = waits.length - words.length;
  return left > 0 ? [`${number(left)} earlier`, ...words] : words;
}

/** What a stage waits for, without a slot. @param {import("mahavishnu-client").Stage} stage @returns {string} */
export function waitsFor({ wait, items, waits_for_count }) {
  if (waits_for_count) return `waits for ${waits_for_count > 1 ? `${number(waits_for_count)} sub-runs` : "a sub-run"}`;
  if (!wait) return items ? "" : "waits for its sub-runs";
  if (wait.kind === "sleep") return wait.expires_at ? `sleeps until ${timeOfDay(wait.expires_at)}` : "sleeps";
  if (wait.kind === "signal") return `waits for the signal ${shown(wait.name)}`;
  return `waits for an answer${wait.title ? `: ${shown(wait.title)}` : ""}`;
}
