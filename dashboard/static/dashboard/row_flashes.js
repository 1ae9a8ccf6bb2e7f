// A row whose status has changed flashes, so that an eye that is elsewhere notices it: at most once a second.

const FLASH_MS = 1_000;
/** More than any page has rows. The oldest are forgotten first. */
const MAX_ROWS = 1_000;

/** The rows of one list. */
export class RowFlashes {
  #rows = new Map(/** @type {[string, {status: string, untilMs: number}][]} */ ([]));

  /**
   * Return the class of a row. A view calls it with each drawing.
   * @param {string} id
   * @param {string} status
   */
  classOf(id, status) {
    const nowMs = Date.now();
    const row = this.#rows.get(id) ?? { status, untilMs: 0 };
    if (row.status !== status && row.untilMs <= nowMs) row.untilMs = nowMs + FLASH_MS;
    row.status = status;
    this.#rows.set(id, row);
    if (this.#rows.size > MAX_ROWS) this.#rows.delete(this.#rows.keys().next().value ?? "");
    return row.untilMs > nowMs ? "flash" : "";
  }
}
