// Keeps the statuses on a page of the admin up to date over one WebSocket, and says how old they are.
//
// Elements with `data-live` name the channel that has their status. A list of workflows follows `summary`, and subscribes
// only to runs that are unfinished on the page and not in that state.

import { connect } from "../realtime/clients/1.0.0/mahavishnu.js";
import { lookOf } from "./statuses.js";
import { websocketAddress } from "./websocket_address.js";

const MAX_CHANNELS = 100;
const UNFINISHED = ["pending", "running"];
const loadedAt = new Date();

/** @type {Map<string, HTMLElement[]>} */
const followed = new Map();
for (const element of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-live]"))) {
  const channel = element.dataset.live ?? "";
  followed.set(channel, [...(followed.get(channel) ?? []), element]);
}
const pill = document.getElementById("live");
if (pill && followed.size > 0) follow(pill);

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select"))
    return;
  const search = document.getElementById("searchbar");
  if (!search) return;
  event.preventDefault();
  search.focus();
});

/** @param {HTMLElement} pill */
function follow(pill) {
  const { host, root = "/" } = pill.dataset;
  const client = connect(websocketAddress(host ?? "", root));
  client.onState((state) => showConnection(pill, client, state));
  showConnection(pill, client, client.state);
  const isListOfRuns = document.body.matches(".change-list.model-workflow");
  if (!isListOfRuns) {
    for (const channel of [...followed.keys()].slice(0, MAX_CHANNELS)) followChannel(client, channel);
    return;
  }
  const own = new Map();
  client.overview().on((overview) => {
    const runs = new Map((overview?.workflows ?? []).map((run) => [`workflow:${run.workflow_id}`, run]));
    for (const [channel, elements] of followed) {
      const run = runs.get(channel);
      if (run) {
        own.get(channel)?.();
        own.delete(channel);
        elements.forEach((element) => show(element, run));
      } else if (
        !own.has(channel) &&
        own.size < MAX_CHANNELS &&
        UNFINISHED.includes(elements[0].dataset.status ?? "")
      ) {
        own.set(channel, followChannel(client, channel));
      }
    }
  });
}

/**
 * @param {import("../realtime/clients/1.0.0/mahavishnu.js").Client} client
 * @param {string} channel
 */
function followChannel(client, channel) {
  const [kind, id] = [channel.slice(0, channel.indexOf(":")), channel.slice(channel.indexOf(":") + 1)];
  const store = kind === "workflow" ? client.workflow(id) : kind === "pool" ? client.pool(id) : client.worker(id);
  return store.on((state) => {
    if (state) followed.get(channel)?.forEach((element) => show(element, state));
  });
}

/**
 * @param {HTMLElement} element
 * @param {any} state of the channel of the element
 */
function show(element, state) {
  const { kind, stage, metric } = element.dataset;
  if (metric) return write(element, String(state.metrics[metric]));
  if (!kind) {
    write(element.querySelector(".word"), `${state.stages_completed} of ${state.total_stages}`);
    const bar = element.querySelector("progress");
    if (bar) Object.assign(bar, { max: state.total_stages || 1, value: state.stages_completed });
    return;
  }
  const status = stage
    ? state.stages.find((/** @type {any} */ each) => each.stage_name === stage)?.status
    : state.status;
  if (!status || status === element.dataset.status) return;
  const look = lookOf(/** @type {any} */ (kind), status);
  write(element.querySelector(".sign"), look.sign);
  write(element.querySelector(".word"), look.word);
  element.className = `status status-${look.colour}`;
  element.dataset.status = status;
  if (document.body.matches(".change-form")) sayThatPageIsOld();
}

/** Times, errors and buttons of the page are those of the time at which it was loaded. */
function sayThatPageIsOld() {
  const title = document.querySelector("#content h1");
  if (!title || document.getElementById("changed")) return;
  const note = document.createElement("p");
  const link = document.createElement("a");
  note.id = "changed";
  note.setAttribute("role", "status");
  note.textContent = `Statuses have changed since ${timeOf(loadedAt)}. For the rest, `;
  link.href = location.href;
  link.textContent = "load this page again";
  note.append(link, ".");
  title.after(note);
}

/** @param {Date} at shown in the time zone of all times on the page */
function timeOf(at) {
  return at.toLocaleTimeString("en-GB", { timeZone: pill?.dataset.zone });
}

/**
 * @param {Element | null} element
 * @param {string} text
 */
function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/**
 * @param {HTMLElement} pill
 * @param {import("../realtime/clients/1.0.0/mahavishnu.js").Client} client
 * @param {string} state
 */
function showConnection(pill, client, state) {
  const since = timeOf(client.asOf);
  const texts = {
    connecting: "◐ Connecting",
    live: "● Live",
    stale: `▲ No answer: as of ${since}`,
    offline: `✕ Offline: as of ${since}`,
    draining: "↻ Server restarts",
    closed: "✕ Not live: log in again",
  };
  if (pill.dataset.state === state) return;
  if (state === "connecting" && pill.dataset.state === "offline") return;
  pill.dataset.state = state;
  write(pill, texts[/** @type {keyof typeof texts} */ (state)]);
}
