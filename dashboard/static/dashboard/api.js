// The HTTP API: what changes something goes over it, with the login of the page.

import { settings } from "./settings.js";

const MAX_ATTEMPTS = 4;
const FIRST_RETRY_MS = 300;
const TIMEOUT_MS = 15_000;

/** A request that the server refused. */
export class Problem extends Error {
  /** @param {any} problem Problem details (RFC 9457). @param {number} status */
  constructor(problem, status) {
    super(problem?.detail || problem?.title || `The server answered ${status}`);
    this.code = problem?.code ?? "";
    this.status = status;
    /** What is wrong, by the path of the part of the request. @type {{path: string, detail: string}[]} */
    this.errors = problem?.errors ?? [];
    /** Who has answered first, and when, if that is the problem. @type {{by: string, at: string} | null} */
    this.answered = problem?.answered_at ? { by: problem.by ?? "", at: problem.answered_at } : null;
  }
}

/** A new key. `crypto.randomUUID` does not exist on a page without TLS. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Read from the API.
 * @param {string} path Such as `permissions?resource=pool:local`.
 * @returns {Promise<any>}
 */
export async function read(path) {
  return answerOf(await fetch(settings.api + path, { signal: AbortSignal.timeout(TIMEOUT_MS) }));
}

/**
 * Change something, once: the request has a key, so it may be sent again where no answer came.
 *
 * @param {string} path Such as `workflows/wf_1/cancel`.
 * @param {object} [body]
 * @returns {Promise<any>} The answer, with the `seq` of the event of the change.
 * @throws {Problem} if the server refuses it.
 */
export async function operate(path, body) {
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": "application/json", "Idempotency-Key": newKey() };
  if (settings.csrf_token) headers["X-CSRFToken"] = settings.csrf_token;
  const request = { method: "POST", headers, body: JSON.stringify(body ?? {}) };
  for (let attempt = 1; ; attempt++) {
    try {
      return await answerOf(await fetch(settings.api + path, { ...request, signal: AbortSignal.timeout(TIMEOUT_MS) }));
    } catch (error) {
      const isRefused = error instanceof Problem && error.status !== 503 && error.code !== "KEY_IN_USE";
      if (isRefused || attempt === MAX_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, FIRST_RETRY_MS * 2 ** attempt));
    }
  }
}

/** @param {Response} response */
async function answerOf(response) {
  const text = await response.text();
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {
    // A proxy answered with a page.
  }
  if (!response.ok) throw new Problem(data, response.status);
  return data;
}
