// The channel and the names of the page of events: what its address says, and the controls that change it.

import { EVENT_GROUPS, EVENT_NAMES } from "./event_words.js";
import { counted, shown } from "./format.js";
import { html } from "./lib.js";
import { closeOnEscape, when } from "./parts.js";
import { changeQuery } from "./routes.js";
import { settings } from "./settings.js";

/** @type {Record<string, string>} */
const KINDS = {
  global: "Everything",
  summary: "Everything but logs, progress",
  workflow: "One workflow",
  pool: "One pool",
  worker: "One worker",
};
/** Often every second event of a pool: folded unless the address says otherwise, or names events. */
export const POOL_COUNTS = "pool.status_changed";
const SHOWN = "shown";
const ID = /^[A-Za-z0-9._-]{1,128}$/;
const ID_RULE = "An id has 1 to 128 of the characters A-Z a-z 0-9 . _ -";

/**
 * @typedef {object} Filters
 * @property {string} channel Empty if none is chosen, or a wrong one.
 * @property {string} kind
 * @property {string} id
 * @property {string} problem What is wrong with the channel of the address.
 * @property {string[]} names Of the events to show; empty for all.
 * @property {boolean} foldsCounts Whether the counts of pools are only counted.
 */

/** Return what an address asks for. @param {URLSearchParams} query @returns {Filters} */
export function filtersOf(query) {
  const wanted = query.get("channel") || (settings.reads_everything ? "global" : "");
  const names = (query.get("name") ?? "").split(",").filter((name) => EVENT_NAMES.includes(name));
  const [kind, ...rest] = wanted.split(":");
  const id = rest.join(":");
  const foldsCounts = names.length === 0 && query.get("counts") !== SHOWN;
  const filters = { channel: wanted, kind, id, problem: "", names, foldsCounts };
  if (kind === "global" || kind === "summary" ? rest.length === 0 : kind in KINDS && ID.test(id)) return filters;
  return { ...filters, channel: "", problem: problemOf(wanted, kind, id) };
}

/** @param {string} wanted @param {string} kind @param {string} id */
function problemOf(wanted, kind, id) {
  if (!wanted) return "";
  if (!(kind in KINDS))
    return `“${shown(wanted)}” is not a channel. A channel is global, summary, or workflow:, pool: or worker: with an id.`;
  if (kind === "global" || kind === "summary") return `The channel ${kind} has no id.`;
  return id ? `“${shown(id)}” is not the id of a ${kind}. ${ID_RULE}.` : "";
}

/** @param {Filters} filters */
export function channelChooser({ kind, id, problem }) {
  const isOne = kind !== "global" && kind !== "summary" && kind in KINDS;
  const choose = (/** @type {any} */ event) => {
    event.preventDefault();
    const value = new FormData(event.currentTarget.closest("form"));
    const chosen = String(value.get("kind"));
    const chosenId = String(value.get("id") ?? "").trim();
    changeQuery({ channel: chosen === "global" || chosen === "summary" ? chosen : `${chosen}:${chosenId}` });
  };
  return html`<form class="channel" @submit=${choose}>
    <label
      ><span class="spoken">Channel</span
      ><select name="kind" @change=${choose}>
        ${when(!(kind in KINDS), html`<option value="" selected disabled>Choose a channel</option>`)}
        ${Object.entries(KINDS).map(([value, word]) => html`<option value=${value} ?selected=${value === kind}>${word}</option>`)}
      </select></label
    >
    ${when(
      isOne,
      html`<label
        ><span class="spoken">Id of the ${kind}</span
        ><input
          name="id"
          class="id"
          size="26"
          maxlength="128"
          autocomplete="off"
          spellcheck="false"
          autocapitalize="off"
          placeholder="Id of the ${kind}"
          .value=${id}
          aria-invalid=${problem ? "true" : "false"}
          @change=${choose}
      /></label>`,
    )}
  </form>`;
}

/**
 * The filter that folds the counts of pools, where there are some.
 * @param {Filters} filters @param {number} foldedEvents
 */
export function countsChooser({ names, foldsCounts }, foldedEvents) {
  if (names.length || (foldsCounts && foldedEvents === 0)) return "";
  return html`<button
    type="button"
    class="chip"
    aria-pressed=${foldsCounts}
    title=${foldsCounts ? "Show them" : "Fold them"}
    @click=${() => changeQuery({ counts: foldsCounts ? SHOWN : "" })}
  >
    ${foldsCounts ? `${counted(foldedEvents, "pool count")} hidden ×` : "Hide pool counts"}
  </button>`;
}

/** @param {string[]} names */
export function nameChooser(names) {
  const change = (/** @type {string[]} */ changed) =>
    changeQuery({ name: changed.length === EVENT_NAMES.length ? "" : changed.join(",") });
  const toggle = (/** @type {string} */ name, /** @type {boolean} */ isOn) =>
    change(isOn ? [...names, name] : names.filter((each) => each !== name));
  const text = names.length ? `Events: ${names.length} of ${EVENT_NAMES.length}` : "All events";
  return html`<details class="menu names" @keydown=${closeOnEscape}>
    <summary class="button">${text} <span aria-hidden="true">▾</span></summary>
    <div class="sheet">
      <p>
        <button type="button" class="link" ?disabled=${!names.length} @click=${() => change([])}>
          Show all events
        </button>
      </p>
      ${Object.entries(EVENT_GROUPS).map(([group, looks]) => {
        const all = Object.keys(looks);
        return html`<fieldset>
          <legend>
            ${group}
            <button type="button" class="link" aria-label="Only ${group}" @click=${() => change(all)}>only</button>
          </legend>
          ${all.map(
            (name) =>
              html`<label title=${name}
                ><input
                  type="checkbox"
                  .checked=${names.includes(name)}
                  @change=${(/** @type {any} */ event) => toggle(name, event.target.checked)}
                />
                <span class="${looks[name].colour} sign" aria-hidden="true">${looks[name].sign}</span>
                ${looks[name].word}</label
              >`,
          )}
        </fieldset>`;
      })}
    </div>
  </details>`;
}
