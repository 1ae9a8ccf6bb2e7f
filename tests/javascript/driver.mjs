// Drive one JavaScript client: read a JSON command a line from stdin, and write JSON lines to stdout.
// clients/cases.json describes the commands and the lines. The argument is the module, if it is not the one here.

import { createInterface } from "node:readline";

const module = process.argv[2] ?? new URL("../../clients/javascript/mahavishnu.js", import.meta.url).href;
const { connect, HistoryLost } = await import(module);

// The options of the cases, in the client's names.
const OPTIONS = {
  ping_after_ms: "pingAfterMs",
  pong_within_ms: "pongWithinMs",
  probe_within_ms: "probeWithinMs",
  first_retry_ms: "firstRetryMs",
  max_retry_ms: "maxRetryMs",
  request_timeout_ms: "requestTimeoutMs",
  reread_after_ms: "rereadAfterMs",
  max_queued_events: "maxQueuedEvents",
  max_queued_bytes: "maxQueuedBytes",
};

let client = null;
let clockAheadMs = 0;
const readers = new Map(); // by name: the iteration, and whether its caller is paused

function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function failure(of, error) {
  write({ of, error: error.name, message: error.message, code: error.code, maybe_done: error.maybeDone });
}

async function read(of, start, lineOf) {
  try {
    // Called here: on a client that has ended, it throws.
    const iteration = start();
    const reader = { iteration, resumed: Promise.resolve(), resume: () => {} };
    readers.set(of, reader);
    for await (const item of iteration) {
      write({ of, ...lineOf(item) });
      await reader.resumed;
    }
  } catch (error) {
    failure(of, error);
  }
}

function eventLine(item) {
  if (item instanceof HistoryLost) return { history_lost: item.reason, channel: item.channel, seq: item.seq };
  return { seq: item.seq, event: item.name, data: item.data, replayed: item.replayed };
}

function stateLine({ asOf, isLive, ...state }) {
  return { state, as_of: asOf, is_live: isLive };
}

const COMMANDS = {
  connect({ url, options = {}, resume_from: resumeFrom, token = null, tokens = [] }) {
    const named = Object.entries(options).map(([name, value]) => [OPTIONS[name] ?? name, value]);
    const wallClock = () => Date.now() + clockAheadMs;
    // A function returns each token once, and then the last one.
    const nextToken = () => (tokens.length > 1 ? tokens.shift() : tokens[0]);
    const given = tokens.length > 0 ? nextToken : token;
    client = connect(url, { ...Object.fromEntries(named), token: given, resumeFrom, wallClock });
    client.onState((state) => write({ client: state }));
    write({ done: "connect" });
  },
  events({ as, channel, resume_from: resumeFrom }) {
    read(as, () => client.events(channel, { resumeFrom }), eventLine);
  },
  async stream({ as: of, workflow_id: workflowId, stage_name: stageName, name }) {
    const stream = client.stream(workflowId, stageName, name);
    // Not awaited: the next commands are read meanwhile.
    read(of, () => stream, (item) => ({ item })).then(() => write({ of, end: stream.end }));
  },
  follow({ as, workflow_id: workflowId }) {
    read(as, () => client.follow(workflowId), stateLine);
  },
  pool({ as, pool_id: poolId }) {
    read(as, () => client.pool(poolId)[Symbol.asyncIterator](), stateLine);
  },
  overview({ as }) {
    read(as, () => client.overview()[Symbol.asyncIterator](), stateLine);
  },
  async request({ as: of, name, data, timeout_ms: timeoutMs }) {
    try {
      write({ of, response: await client.request(name, data, { timeoutMs }) });
    } catch (error) {
      failure(of, error);
    }
  },
  pause({ as }) {
    const reader = readers.get(as);
    reader.resumed = new Promise((resolve) => {
      reader.resume = resolve;
    });
    write({ done: "pause" });
  },
  resume({ as }) {
    readers.get(as).resume();
    write({ done: "resume" });
  },
  end({ as }) {
    readers.get(as).iteration.close();
    write({ done: "end" });
  },
  position() {
    write({ position: client.position });
  },
  clock_jump({ ms }) {
    clockAheadMs += ms;
    write({ done: "clock_jump" });
  },
  async close() {
    await client.close();
    readers.clear();
    write({ done: "close" });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await COMMANDS[command.do](command);
}
await client?.close();
