// What the user may operate. What the user may not is not shown.

import { read } from "./api.js";
import { signal } from "./lib.js";
import { settings } from "./settings.js";

/** @typedef {"workflow" | "pool" | "worker" | "definition"} Kind */

/** The most resources of one question: with the longest ids, proxies still accept its address of 8 KB. */
const MAX_RESOURCES = 50;

/** The answers for single resources: undefined until it is known. @type {Map<string, import("./lib.js").Signal<boolean>>} */
const known = new Map();
/** @type {Set<string>} */
let wanted = new Set();

/**
 * Return whether the user may operate a resource. The answer of the server is followed where it depends on the id.
 * @param {Kind} kind
 * @param {string} id
 */
export function mayOperate(kind, id) {
  if (settings.operates.includes(kind)) return true;
  if (!settings.user) return false;
  const resource = `${kind}:${id}`;
  let answer = known.get(resource);
  if (!answer) {
    known.set(resource, (answer = signal(false)));
    if (wanted.size === 0) queueMicrotask(() => void askServer());
    wanted.add(resource);
  }
  return answer.value;
}

async function askServer() {
  const asked = [...wanted];
  wanted = new Set();
  for (let from = 0; from < asked.length; from += MAX_RESOURCES) {
    const some = asked.slice(from, from + MAX_RESOURCES);
    const query = new URLSearchParams(some.map((resource) => ["resource", resource]));
    try {
      const { operate } = await read(`permissions?${query}`);
      for (const resource of operate) {
        const answer = known.get(resource);
        if (answer) answer.value = true;
      }
    } catch {
      // Nothing is offered then; the question is asked again for the next page.
      for (const resource of some) known.delete(resource);
    }
  }
}
