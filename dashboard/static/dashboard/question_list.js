// The open questions of all runs: read page by page, the newest first. Events remove those that have ended, and have
// the list read again where they bring new ones.

import { client, onEvents } from "./connection.js";
import { shown } from "./format.js";
import { signal } from "./lib.js";
import { Refresher } from "./refresher.js";
import { route } from "./routes.js";
import { toast } from "./toasts.js";

/** @typedef {import("mahavishnu-client").Answer<"list_waits">["waits"][number]} Question */

const PAGE_ROWS = 50;
/** The most rows on the page, however often older ones are asked for. */
export const MAX_ROWS = 200;
/** The most requests of one reading: a page has few questions where many stages wait for something else. */
const MAX_REQUESTS = 5;
/** How often the list is read again because of events. */
const READ_EVERY_MS = 1_000;

/** The events after which a question is not open. */
const ENDS_WAIT = ["workflow.wait_answered", "workflow.wait_expired"];
/** Those after which no question of a run is. */
const ENDS_RUN = ["workflow.completed", "workflow.failed", "workflow.cancelled", "workflow.removed"];
/** Those after which some of its questions may be closed. */
const MAY_CLOSE = ["workflow.retried", "workflow.stage_removed", "workflow.stage_status_changed"];

export class QuestionList {
  /** Undefined until they are known. */
  rows = signal(/** @type {Question[] | undefined} */ (undefined));
  error = signal(/** @type {Error | null} */ (null));
  isReading = signal(false);
  /** Where the next page begins. @type {import("./lib.js").Signal<string | null>} */
  cursor = signal(null);
  /** Undefined until a drawing has asked for the list. @type {string | undefined} */
  #recipient = undefined;
  /** What has ended during a reading, which may still bring it. @type {((row: Question) => boolean)[]} */
  #endings = [];
  /** The runs that may have closed questions during a reading. @type {Set<string>} */
  #changed = new Set();
  /** The last reading: the next one begins after it. @type {Promise<unknown>} */
  #turn = Promise.resolve();
  #reader = new Refresher(() => this.#inTurn(() => this.#readAgain()), 0);
  #eventReader = new Refresher(() => this.#inTurn(() => this.#readAgain()), READ_EVERY_MS);
  #stop = onEvents((item) => this.#onItem(item));

  /** Read the questions for the recipient in the address, if that has changed. A view calls it with each drawing. */
  follow() {
    const { page, query } = route.value;
    const recipient = query.get("to") ?? "";
    // The address of the next page comes before its module.
    if (page !== "questions" || recipient === this.#recipient) return;
    this.#recipient = recipient;
    this.rows.value = undefined;
    this.error.value = null;
    this.read();
  }

  /** Read the list again. */
  read() {
    this.#reader.want();
  }

  /** Add the next page. */
  async readOlder() {
    if (this.isReading.peek()) return;
    try {
      await this.#inTurn(async () => {
        const earlier = this.rows.peek() ?? [];
        await this.#readUpTo(earlier.length + PAGE_ROWS, earlier, this.cursor.peek());
      });
    } catch (error) {
      toast(`Older questions could not be read: ${shown(/** @type {Error} */ (error).message)}`);
    }
  }

  /** Return whether a question would be among the rows if it were open. @param {Question} row */
  hasRead({ recipients, opened_at }) {
    if (this.#recipient && !recipients.includes(this.#recipient)) return false;
    const oldest = this.rows.value?.at(-1);
    return this.cursor.value === null || (oldest !== undefined && Date.parse(opened_at) > Date.parse(oldest.opened_at));
  }

  close() {
    this.#stop();
    this.#reader.close();
    this.#eventReader.close();
  }

  /** @param {() => Promise<void>} read */
  #inTurn(read) {
    const turn = this.#turn.then(read);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Read as many rows as are shown. */
  async #readAgain() {
    const recipient = this.#recipient;
    try {
      await this.#readUpTo(Math.max(this.rows.peek()?.length ?? 0, PAGE_ROWS), [], null);
    } catch (error) {
      if (recipient === this.#recipient && this.rows.peek() === undefined)
        this.error.value = /** @type {Error} */ (error);
      throw error;
    }
  }

  /**
   * Add pages to rows until there are as many as wanted, and show them.
   * @param {number} count @param {Question[]} rows @param {string | null} cursor Null for the first page.
   */
  async #readUpTo(count, rows, cursor) {
    const recipient = this.#recipient;
    const wanted = Math.min(count, MAX_ROWS);
    this.#endings = [];
    this.#changed.clear();
    this.isReading.value = true;
    try {
      for (let request = 0; request < MAX_REQUESTS; request++) {
        const limit = Math.max(wanted - rows.length, 1);
        const page = await client.listWaits({ kind: "ask", to: recipient || null, cursor, limit });
        if (recipient !== this.#recipient) return;
        const known = new Set(rows.map((row) => row.wait_id));
        rows = [...rows, ...page.waits.filter((row) => !known.has(row.wait_id))];
        cursor = page.next_cursor;
        if (rows.length >= wanted || cursor === null) break;
      }
    } finally {
      this.isReading.value = false;
    }
    this.rows.value = rows.filter((row) => !this.#endings.some((hasEnded) => hasEnded(row)));
    this.cursor.value = cursor;
    this.error.value = null;
    if (rows.some((row) => this.#changed.has(row.workflow_id))) this.#eventReader.want();
  }

  /** @param {any} item */
  #onItem({ name, data }) {
    if (name === undefined) return this.read();
    if (data.test === true) return;
    const { workflow_id, wait_id, kind, recipients } = data;
    if (name === "workflow.waiting") {
      if (kind === "ask" && (!this.#recipient || recipients.includes(this.#recipient))) this.#eventReader.want();
    } else if (ENDS_WAIT.includes(name)) this.#remove((row) => row.wait_id === wait_id);
    else if (ENDS_RUN.includes(name)) this.#remove((row) => row.workflow_id === workflow_id);
    else if (MAY_CLOSE.includes(name)) {
      if (this.isReading.peek()) this.#changed.add(workflow_id);
      else if (this.rows.peek()?.some((row) => row.workflow_id === workflow_id)) this.#eventReader.want();
    }
  }

  /** @param {(row: Question) => boolean} hasEnded */
  #remove(hasEnded) {
    if (this.isReading.peek()) this.#endings.push(hasEnded);
    const rows = this.rows.peek();
    if (rows?.some(hasEnded)) this.rows.value = rows.filter((row) => !hasEnded(row));
  }
}
