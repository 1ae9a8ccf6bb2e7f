// A stream of chunks that a page follows: its last text, with a bound on what is kept and drawn.

import { client } from "./connection.js";
import { counted, number, shown } from "./format.js";
import { signal } from "./lib.js";

/** How much text of one stream is shown: the last of it. */
export const MAX_SHOWN_BYTES = 64 * 1024;
/** The text is drawn in blocks, of which only the last one changes. */
const BLOCK_CHARACTERS = 4096;

const encoder = new TextEncoder();

/** @typedef {{number: number, raw: string, text: string, bytes: number, isGap: boolean}} Block `text`: what is drawn. */

export class FollowedStream {
  /** @type {Block[]} */
  #blocks = [];
  #lastNumber = 0;
  #shownBytes = 0;
  /** Changes with the blocks and the counts: they are read when a frame shows them. */
  #version = signal(0);
  /** Bytes that have come, also those that are not shown. */
  #receivedBytes = 0;
  #leftOutBytes = 0;
  #stream;
  #isClosed = false;
  /** Whether the end is shown as the text grows: until the reader scrolls away from it. */
  isAtEnd = signal(true);
  /** The attempt whose text replaces that of another one; 0 if there was no other. */
  restartedBy = signal(0);
  /** How it ended; null while it is open. @type {import("./lib.js").Signal<import("mahavishnu-client").ChunkStream["end"]>} */
  end = signal(null);
  error = signal(/** @type {Error | null} */ (null));

  /** @param {string} workflowId @param {string} stageName @param {string} name */
  constructor(workflowId, stageName, name) {
    this.open = () => client.stream(workflowId, stageName, name);
    this.#stream = this.open();
    void this.#read(this.#stream);
  }

  /** What is drawn. */
  get blocks() {
    this.#version.value;
    return this.#blocks;
  }

  get receivedBytes() {
    this.#version.value;
    return this.#receivedBytes;
  }

  /** How much of the beginning is not shown. */
  get leftOutBytes() {
    this.#version.value;
    return this.#leftOutBytes;
  }

  /** Follow a later attempt, after the stream has ended with an earlier one. @param {number} attempt */
  follow(attempt) {
    const ended = this.end.peek();
    if (this.#isClosed || !ended || attempt <= ended.attempt) return;
    this.#restart(attempt);
    this.end.value = null;
    this.#stream = this.open();
    void this.#read(this.#stream);
  }

  close() {
    this.#isClosed = true;
    this.#stream.close();
  }

  /** @param {import("mahavishnu-client").ChunkStream} stream */
  async #read(stream) {
    try {
      for await (const item of stream) {
        if (item.type === "chunk") this.#add(item.data);
        else if (item.type === "gap") this.#addGap(item.end - item.offset);
        else this.#restart(item.attempt);
      }
      this.end.value = stream.end;
    } catch (error) {
      this.error.value = /** @type {Error} */ (error);
    }
  }

  /** @param {number} attempt */
  #restart(attempt) {
    this.#blocks = [];
    this.#shownBytes = this.#receivedBytes = this.#leftOutBytes = 0;
    this.restartedBy.value = attempt;
    this.isAtEnd.value = true;
    this.#version.value++;
  }

  /** @param {string | Uint8Array} data Only text is kept. */
  #add(data) {
    if (typeof data !== "string") this.#receivedBytes += data.length;
    else for (const piece of pieces(data)) this.#addText(piece);
    this.#version.value++;
  }

  /** @param {string} piece */
  #addText(piece) {
    const bytes = encoder.encode(piece).length;
    let block = this.#blocks.at(-1);
    if (!block || block.isGap || block.raw.length + piece.length > BLOCK_CHARACTERS) block = this.#newBlock(false);
    block.raw += piece;
    block.text = escapedLines(block.raw);
    block.bytes += bytes;
    this.#shownBytes += bytes;
    this.#receivedBytes += bytes;
    while (this.#shownBytes > MAX_SHOWN_BYTES) {
      const first = /** @type {Block} */ (this.#blocks.shift());
      this.#shownBytes -= first.bytes;
      this.#leftOutBytes += first.bytes;
    }
  }

  /** @param {number} bytes */
  #addGap(bytes) {
    const block = this.#newBlock(true);
    block.text = `${counted(bytes, "byte")} ${bytes === 1 ? "is" : "are"} missing here: the server could not deliver them.`;
    this.#receivedBytes += bytes;
    this.#version.value++;
  }

  /** @param {boolean} isGap @returns {Block} */
  #newBlock(isGap) {
    const block = { number: ++this.#lastNumber, raw: "", text: "", bytes: 0, isGap };
    this.#blocks.push(block);
    return block;
  }

  /** How far it is, in words. @param {boolean} isRunning Whether its stage runs. */
  summary(isRunning) {
    const size = this.receivedBytes ? `${number(this.receivedBytes)} bytes` : "";
    const end = this.end.value;
    if (end) {
      const how = end.status === "completed" ? "complete" : `stage ${end.status}, not stored`;
      return [how, size].filter(Boolean).join(" · ");
    }
    return [isRunning ? "as it comes" : "", size].filter(Boolean).join(" · ");
  }
}

/** Split a text into pieces that fit in a block, and not inside a character. @param {string} text */
function* pieces(text) {
  for (let from = 0; from < text.length;) {
    let to = Math.min(from + BLOCK_CHARACTERS, text.length);
    if (to < text.length && /[\ud800-\udbff]/.test(text[to - 1])) to--;
    yield text.slice(from, to);
    from = to;
  }
}

/** Return a text with its lines and tabs, and other hidden characters as escapes. @param {string} text */
const escapedLines = (text) => text.replaceAll("\r\n", "\n").replace(/[^\n\t]+/g, shown);
