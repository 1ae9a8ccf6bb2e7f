// The sign, the word and the colour of each status, always shown in this order. `orchestration/admin/statuses.py` has the
// same for the admin.

/** @typedef {{sign: string, word: string, colour: string}} Look */

const PENDING = { sign: "○", word: "pending", colour: "neutral" };
const QUEUED = { sign: "↻", word: "queued", colour: "waiting" };
const RUNNING = { sign: "◐", word: "running", colour: "running" };
const COMPLETED = { sign: "✓", word: "completed", colour: "success" };
const FAILED = { sign: "✕", word: "failed", colour: "failure" };
const CANCELLED = { sign: "⊘", word: "cancelled", colour: "cancelled" };

/** @type {Record<string, Record<string, Look>>} */
export const STATUSES = {
  workflow: {
    pending: PENDING,
    running: RUNNING,
    completed: COMPLETED,
    failed: FAILED,
    cancelled: CANCELLED,
    timeout: { sign: "◷", word: "timed out", colour: "timeout" },
  },
  stage: {
    pending: PENDING,
    queued: QUEUED,
    running: RUNNING,
    waiting: { sign: "‖", word: "waiting", colour: "waiting" },
    completed: COMPLETED,
    failed: FAILED,
    skipped: { sign: "–", word: "skipped", colour: "neutral" },
    cancelled: CANCELLED,
  },
  worker: {
    idle: { sign: "✓", word: "idle", colour: "success" },
    busy: { sign: "◐", word: "busy", colour: "running" },
    error: { sign: "✕", word: "error", colour: "failure" },
    offline: { sign: "⌀", word: "offline", colour: "neutral" },
  },
  pool: {
    active: { sign: "●", word: "open", colour: "success" },
    draining: { sign: "!", word: "draining", colour: "waiting" },
    closed: { sign: "–", word: "closed", colour: "neutral" },
  },
  wait: {
    open: { sign: "‖", word: "open", colour: "waiting" },
    answered: { sign: "✓", word: "answered", colour: "success" },
    expired: { sign: "◷", word: "expired", colour: "timeout" },
    closed: { sign: "–", word: "closed", colour: "neutral" },
  },
};

/**
 * Return how a status looks. A status that is unknown, of a newer server, is shown by its name.
 *
 * @param {"workflow" | "stage" | "worker" | "pool"} kind
 * @param {string} status
 * @returns {Look}
 */
export function lookOf(kind, status) {
  return STATUSES[kind][status] ?? { sign: "?", word: status, colour: "neutral" };
}
