// What can be started, and the form that starts it: made of the parameters of its function.

import { client, isLive } from "../connection.js";
import { counted, shown } from "../format.js";
import { effect, html, repeat, signal } from "../lib.js";
import { emptyPage, emptyState, loading, refusedPage, when } from "../parts.js";
import { mayOperate } from "../permissions.js";
import { changeQuery, route, urlOf } from "../routes.js";
import { settings } from "../settings.js";
import { StartForm } from "../start_form.js";
import { withCode } from "../field_inputs.js";
import { formView, parametersOf } from "../start_form_view.js";

/** @typedef {import("../start_form.js").Definition} Definition */

const MAX_SUGGESTIONS = 3;

/** @param {string} name Of the workflow; empty for the list. @returns {import("../main.js").Page} */
export function open(name) {
  const page = new StartPage(name);
  return {
    title: () => (name ? `Start ${shown(name)}` : "Start a workflow"),
    view: () => view(page),
    close: () => page.close(),
  };
}

/** The definitions, and the form of one. */
class StartPage {
  definitions = signal(/** @type {Definition[] | null} */ (null));
  error = signal(/** @type {Error | null} */ (null));
  form = signal(/** @type {StartForm | null} */ (null));
  isTruncated = false;
  #isReading = false;
  #stop;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
    // Again if it failed, when the server is there.
    this.#stop = effect(() => {
      if (isLive.value || !this.#isReading) void this.#read();
    });
  }

  close() {
    this.#stop();
    this.form.peek()?.close();
  }

  async #read() {
    if (this.#isReading || this.definitions.peek()) return;
    this.#isReading = true;
    try {
      const { definitions, truncated } = await client.listDefinitions();
      const all = /** @type {Definition[]} */ (definitions);
      const wanted = all.find((each) => each.name === this.name);
      this.isTruncated = truncated === true;
      if (wanted) this.form.value = new StartForm(wanted);
      this.definitions.value = all;
      this.error.value = null;
    } catch (error) {
      this.error.value = /** @type {Error} */ (error);
    } finally {
      this.#isReading = false;
    }
  }
}

/** @param {StartPage} page */
function view(page) {
  if (page.error.value && !page.definitions.value) return refusedPage(page.error.value, "what can be started");
  const definitions = page.definitions.value;
  if (!definitions)
    return html`<h1>${page.name ? `Start ${shown(page.name)}` : "Start a workflow"}</h1>
      ${loading("what can be started")}`;
  if (!page.name) return list(definitions, page.isTruncated);
  return page.form.value ? one(page.form.value) : unknown(page.name, definitions);
}

/** @param {Definition[]} definitions @param {boolean} isTruncated */
function list(definitions, isTruncated) {
  const search = route.value.query.get("q") ?? "";
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = definitions.filter(({ name, description }) =>
    words.every((word) => `${name} ${description}`.toLowerCase().includes(word)),
  );
  if (definitions.length === 0) {
    return html`<h1>Start a workflow</h1>
      ${emptyState("No workflow is defined", html`<p>A workflow is a Python function with @workflow in the module workflows.py of an app in MAHAVISHNU_APPS. <a href="${settings.docs}/workflows">How to write one</a></p>`)}`;
  }
  return html`
    <h1>Start a workflow</h1>
    <form class="filters" role="search" @submit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <input
        type="search"
        class="first"
        aria-label="Search workflows to start"
        placeholder="Search  ( / )"
        maxlength="200"
        .value=${search}
        @input=${(/** @type {any} */ event) => changeQuery({ q: event.target.value })}
      />
      <span class="muted" role="status">${counted(matching.length, "workflow")}</span>
    </form>
    ${
      matching.length === 0
        ? emptyState(
            "No workflow matches",
            html`<p>No name and no description contains the words.</p>
              <button type="button" @click=${() => changeQuery({ q: "" })}>Show all</button>`,
          )
        : html`<ul class="definitions">
            ${repeat(matching, (each) => each.name, definitionRow)}
          </ul>`
    }
    ${when(isTruncated, html`<p class="muted more">There are more than the server lists.</p>`)}
  `;
}

/** @param {Definition} definition */
function definitionRow({ name, description, parameters }) {
  const names = Object.keys(parameters.properties ?? {});
  const required = new Set(parameters.required ?? []);
  return html`<li>
    <a class="run-link" data-row href=${urlOf(`start/${encodeURIComponent(name)}`)}>
      <span class="name">${shown(name)}</span>
      <span class="text">${description ? withCode(description) : html`<span class="muted">No description</span>`}</span>
      <span class="parameters muted"
        >${names.length ? names.map((each) => html`<code>${shown(each)}${required.has(each) ? "*" : ""}</code> `) : "no parameters"}</span
      >
    </a>
  </li>`;
}

/** @param {string} name @param {Definition[]} definitions */
function unknown(name, definitions) {
  const near = definitions
    .map((each) => each.name)
    .filter((each) => isNear(each, name))
    .slice(0, MAX_SUGGESTIONS);
  const links = near.map(
    (each, index) => html`${index ? ", " : ""}<a href=${urlOf(`start/${encodeURIComponent(each)}`)}>${shown(each)}</a>`,
  );
  return emptyPage(
    `There is no workflow ${shown(name)}`,
    html`${when(near.length > 0, html`<p>Did you mean ${links}?</p>`)}
      <p>${counted(definitions.length, "workflow")} can be started here: <a href=${urlOf("start")}>see all</a>.</p>`,
  );
}

/** Return whether a name may be meant. @param {string} known @param {string} typed */
function isNear(known, typed) {
  const [one, other] = [known.toLowerCase(), typed.toLowerCase()];
  return (
    other.length > 2 &&
    (one.includes(other) || other.includes(one) || distance(one, other) <= Math.max(2, one.length / 4))
  );
}

/** The least number of changed characters. @param {string} one @param {string} other */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1));
    row = next;
  }
  return row[other.length];
}

/** @param {StartForm} form */
function one(form) {
  const { name, description } = form.definition;
  const may = mayOperate("definition", name);
  return html`
    <p class="crumbs"><a href=${urlOf("start")}>All workflows to start</a></p>
    <h1>Start ${shown(name)}</h1>
    ${when(description, html`<p class="about">${withCode(description)}</p>`)}
    ${
      may
        ? formView(form)
        : html`<p class="banner waiting">
              You may not start it. Ask an administrator of this server for the permission to operate it.
            </p>
            ${parametersOf(form)}`
    }
  `;
}
