// The streams of chunks that the stages of a run write: each with its text as it comes.

import { FollowedStream, MAX_SHOWN_BYTES } from "./followed_stream.js";
import { number, shown } from "./format.js";
import { html, repeat, signal } from "./lib.js";
import { when } from "./parts.js";

/** @typedef {import("mahavishnu-client").Stage} Stage */
/** @typedef {{name: string, attempt: number, content_type: string}} StreamState */

/** How many streams are followed at once: the next one closes the oldest. */
const MAX_FOLLOWED = 8;
/** How many of them open by themselves, because their stage runs. */
const MAX_OPENED = 2;
/** The streams of one stage that are listed. */
const MAX_LISTED = 20;
/** How far from its end a text may be scrolled, and still follow it. */
const END_PIXELS = 24;

export class RunStreams {
  /** Those that are unfolded, by stage and name, in the order in which they were opened. @type {Map<string, FollowedStream>} */
  #followed = new Map();
  /** What the reader has unfolded or folded is not opened by itself. @type {Set<string>} */
  #chosen = new Set();
  #version = signal(0);
  #isClosed = false;

  /** @param {string} workflowId */
  constructor(workflowId) {
    this.workflowId = workflowId;
  }

  close() {
    this.#isClosed = true;
    for (const stream of this.#followed.values()) stream.close();
    this.#followed.clear();
  }

  /** The streams of a stage. @param {Stage} stage */
  view(stage) {
    const streams = stage.streams ?? [];
    if (streams.length === 0) return "";
    const left = streams.length - MAX_LISTED;
    return html`<div class="below">
      ${repeat(
        streams.slice(0, MAX_LISTED),
        ({ name }) => name,
        (stream) => this.#stream(stage, stream),
      )}
      ${when(left > 0, html`<p class="muted">${number(left)} more streams</p>`)}
    </div>`;
  }

  /** @param {Stage} stage @param {StreamState} stream */
  #stream(stage, { name, attempt, content_type: type }) {
    this.#version.value;
    const key = JSON.stringify([stage.stage_name, name]);
    const isRunning = stage.status === "running";
    if (isRunning && type === "text" && !this.#chosen.has(key) && this.#followed.size < MAX_OPENED)
      this.#open(key, stage.stage_name, name);
    const followed = this.#followed.get(key);
    followed?.follow(attempt);
    const toggle = (/** @type {Event} */ event) => {
      const { open } = /** @type {HTMLDetailsElement} */ (event.currentTarget);
      if (open === this.#followed.has(key)) return;
      this.#chosen.add(key);
      if (open) this.#open(key, stage.stage_name, name);
      else this.#fold(key);
      this.#version.value++;
    };
    return html`<details class="stream" ?open=${followed !== undefined} @toggle=${toggle}>
      <summary>
        Stream ${shown(name)}
        <span class="muted"
          >${["", type === "text" ? "" : type, followed?.summary(isRunning) || ""].filter((part, index) => !index || part).join(" · ")}</span
        >
      </summary>
      ${followed ? streamText(followed, `Stream ${shown(name)} of ${shown(stage.stage_name)}`, type) : ""}
    </details>`;
  }

  /** @param {string} key @param {string} stageName @param {string} name */
  #open(key, stageName, name) {
    if (this.#isClosed || this.#followed.has(key)) return;
    for (const other of this.#followed.keys()) {
      if (this.#followed.size < MAX_FOLLOWED) break;
      this.#chosen.add(other);
      this.#fold(other);
    }
    this.#followed.set(key, new FollowedStream(this.workflowId, stageName, name));
  }

  /** @param {string} key */
  #fold(key) {
    this.#followed.get(key)?.close();
    this.#followed.delete(key);
  }
}

/** @param {FollowedStream} stream @param {string} label @param {string} type */
function streamText(stream, label, type) {
  const { blocks, leftOutBytes } = stream;
  const attempt = stream.restartedBy.value;
  const error = stream.error.value;
  return html`
    ${when(attempt, html`<p class="waiting">Attempt ${attempt} writes it anew: what an earlier attempt has written is void.</p>`)}
    ${when(error, html`<p class="error">It cannot be shown: ${shown(error?.message)}</p>`)}
    ${when(leftOutBytes > 0, html`<p class="muted">The last ${number(MAX_SHOWN_BYTES / 1024)} KiB: the first ${number(leftOutBytes)} bytes are not shown.</p>`)}
    ${type === "text" ? textRegion(stream, blocks, label) : when(stream.receivedBytes > 0, html`<p class="muted">Only streams of text are shown.</p>`)}
  `;
}

/** @param {FollowedStream} stream @param {import("./followed_stream.js").Block[]} blocks @param {string} label */
function textRegion(stream, blocks, label) {
  const isAtEnd = stream.isAtEnd.value;
  const onScroll = (/** @type {any} */ { target }) => {
    const isNowAtEnd = target.scrollHeight - target.scrollTop - target.clientHeight < END_PIXELS;
    if (isNowAtEnd !== stream.isAtEnd.peek()) stream.isAtEnd.value = isNowAtEnd;
  };
  if (isAtEnd) queueMicrotask(showEnds);
  return html`<div
      class="stream-text"
      tabindex="0"
      role="log"
      aria-live="off"
      aria-label=${label}
      data-at-end=${isAtEnd}
      @scroll=${onScroll}
    >
      ${repeat(
        blocks,
        (block) => block.number,
        (block) =>
          block.isGap ? html`<span class="gap waiting">${block.text}</span>` : html`<span>${block.text}</span>`,
      )}${when(blocks.length === 0, html`<span class="muted">${stream.end.value ? "Nothing was written." : "Nothing yet"}</span>`)}
    </div>
    ${when(!isAtEnd, html`<button type="button" class="link" @click=${() => (stream.isAtEnd.value = true)}>To the end</button>`)}`;
}

/** Show the ends of the texts that were not scrolled away from them: after they are drawn. */
function showEnds() {
  for (const element of document.querySelectorAll('.stream-text[data-at-end="true"]'))
    element.scrollTop = element.scrollHeight;
}

// Other widths break the lines elsewhere.
addEventListener("resize", showEnds);
