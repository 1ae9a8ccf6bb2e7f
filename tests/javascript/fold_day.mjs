// Fold a recorded day (tests/fold/recorded_day.py), and compare the states with the snapshots. Write how many were
// compared, by type of channel.

import { deepStrictEqual } from "node:assert/strict";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";

const [module, day] = process.argv.slice(2);
const { decodeState, fold } = await import(module);

const states = new Map();
const compared = {};

// Heartbeats cause no events.
function withHeartbeatsOf(folded, snapshot) {
  if (folded === null || snapshot === null) return snapshot;
  if ("last_heartbeat_at" in snapshot) return { ...snapshot, last_heartbeat_at: folded.last_heartbeat_at };
  if (!("workers" in snapshot)) return snapshot;
  const known = new Map(folded.workers.map((worker) => [worker.worker_id, worker]));
  const workers = snapshot.workers.map((worker) => withHeartbeatsOf(known.get(worker.worker_id) ?? worker, worker));
  return { ...snapshot, workers };
}

function isFrozen(value) {
  return value === null || typeof value !== "object" || (Object.isFrozen(value) && Object.values(value).every(isFrozen));
}

for await (const text of createInterface({ input: createReadStream(day) })) {
  const line = JSON.parse(text);
  const { channel } = line;
  const folded = states.get(channel);
  if (line.event) {
    const event = { name: line.event.event, data: line.event.data };
    const before = JSON.stringify(folded);
    const after = fold(channel, folded ?? null, event);
    deepStrictEqual(JSON.stringify(folded), before, `the fold of ${event.name} has changed its argument`);
    deepStrictEqual(isFrozen(after), true, `the state after ${event.name} is not frozen`);
    states.set(channel, after);
    continue;
  }
  const snapshot = decodeState(channel, line.snapshot);
  if (folded === undefined || folded?.truncated || snapshot?.truncated) {
    states.set(channel, snapshot);
    continue;
  }
  deepStrictEqual(folded, withHeartbeatsOf(folded, snapshot), channel);
  const [kind] = channel.split(":");
  compared[kind] = (compared[kind] ?? 0) + 1;
}
console.log(JSON.stringify(compared));
