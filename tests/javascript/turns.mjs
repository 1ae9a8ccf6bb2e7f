// Waits of tests that have the server in their own program.

import assert from "node:assert/strict";

/** Let everything that is due run. */
export const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

export async function until(condition) {
  const lateAt = Date.now() + 5000;
  while (!condition()) {
    assert.ok(Date.now() < lateAt, `not in time: ${condition}`);
    await turn();
  }
}
