// Readers of one stream in the JavaScript client, with a scripted server: full queues, resets, gaps and the end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../clients/javascript/mahavishnu.js";
import { turn, until } from "./turns.mjs";

const CHANNEL = "stream:wf/answer/reply";
const CLOSED = { attempt: 1, status: "completed", length: 9, sha256: "s" };

// A server in this program that answers a `subscribe` when the test says so.
class Server {
  requests = [];

  constructor() {
    const server = this;
    this.WebSocket = class {
      readyState = 1;

      constructor() {
        server.socket = this;
        queueMicrotask(() => server.write({ type: "event", event: "session.created", data: { epoch: "e", seq: 0 } }));
      }

      send(text) {
        server.requests.push(JSON.parse(text));
      }

      close() {
        this.readyState = 3;
      }
    };
  }

  write(fields) {
    this.socket.onmessage?.({ data: JSON.stringify(fields) });
  }

  send(event, data) {
    this.write({ type: "event", event, data, room: CHANNEL });
  }

  chunk(attempt, offset, delta) {
    this.send("stream.chunk", { attempt, offset, delta });
  }

  lose() {
    this.socket.readyState = 3;
    this.socket.onclose?.({ code: 1006 });
  }

  // Answer the next request, which must be a `subscribe` with these data. `messages` follow in the same turn.
  async answer(expected, { attempt, offset }, messages = () => {}) {
    await until(() => this.requests.length > 0);
    const { event, data, id } = this.requests.shift();
    assert.deepEqual([event, data], ["subscribe", { channel: CHANNEL, ...expected }]);
    const answer = { channel: CHANNEL, status: "subscribed", attempt, offset };
    this.write({ type: "response", event, data: answer, correlation_id: id });
    messages();
  }
}

async function connected() {
  const server = new Server();
  const client = connect("http://server", { WebSocket: server.WebSocket, firstRetryMs: 1, maxQueuedBytes: 4 });
  await client.waitLive();
  return { server, client, reader: (options) => client.stream("wf", "answer", "reply", options) };
}

// A reader whose queue is full with `abcdef` of attempt 1; it has not received `ghi`.
async function withFullReader() {
  const parts = await connected();
  const { server, reader } = parts;
  const full = reader();
  await server.answer({ offset: 0 }, { attempt: 1, offset: 0 });
  server.chunk(1, 0, "abc");
  server.chunk(1, 3, "def");
  server.chunk(1, 6, "ghi");
  return { ...parts, full };
}

const chunk = (attempt, offset, data) => ({ type: "chunk", offset, data, attempt });
const reset = (attempt) => ({ type: "reset", attempt });

async function takes(stream, ...expected) {
  for (const item of expected) assert.deepEqual((await stream.next()).value, item);
}

test("a reset empties a full queue, and its chunks follow", async () => {
  const { server, client, full } = await withFullReader();
  server.send("stream.reset", { attempt: 2 });
  server.chunk(2, 0, "new");
  await takes(full, reset(2), chunk(2, 0, "new"));
  const end = { ...CLOSED, attempt: 2, length: 3 };
  server.send("stream.closed", end);
  assert.equal((await full.next()).done, true);
  assert.deepEqual(full.end, end);
  assert.deepEqual(server.requests, []);
  await client.close();
});

test("an answer with another attempt empties a full queue", async () => {
  const { server, client, full, reader } = await withFullReader();
  server.lose();
  await client.waitLive();
  assert.deepEqual(server.requests, []);
  const quick = reader();
  await server.answer({ offset: 0 }, { attempt: 2, offset: 0 }, () => server.chunk(2, 0, "new"));
  await takes(full, reset(2), chunk(2, 0, "new"));
  await takes(quick, chunk(2, 0, "new"));
  await client.close();
});

test("another attempt when a full queue has room is a reset", async () => {
  const { server, client, full } = await withFullReader();
  await takes(full, chunk(1, 0, "abc"), chunk(1, 3, "def"));
  await server.answer({ offset: 6, attempt: 1 }, { attempt: 2, offset: 0 }, () => server.chunk(2, 0, "new"));
  await takes(full, reset(2), chunk(2, 0, "new"));
  await client.close();
});

test("a gap that a full queue has not taken is sent again", async () => {
  const { server, client, full } = await withFullReader();
  const gap = { attempt: 1, offset: 6, end: 20 };
  server.send("stream.gap", gap);
  await takes(full, chunk(1, 0, "abc"), chunk(1, 3, "def"));
  await server.answer({ offset: 6, attempt: 1 }, { attempt: 1, offset: 6 }, () => server.send("stream.gap", gap));
  server.chunk(1, 20, "end");
  await takes(full, { type: "gap", ...gap }, chunk(1, 20, "end"));
  await client.close();
});

test("the end is taken only by readers that have what is before it", async () => {
  const { server, client, full, reader } = await withFullReader();
  const quick = reader({ offset: 6, attempt: 1 });
  await server.answer({ offset: 6, attempt: 1 }, { attempt: 1, offset: 6 }, () => server.chunk(1, 6, "ghi"));
  await takes(full, chunk(1, 0, "abc"), chunk(1, 3, "def"));
  // The queue has room, but the server has not answered its `subscribe`.
  server.send("stream.closed", CLOSED);
  assert.deepEqual(quick.end, CLOSED);
  assert.equal(full.end, null);
  await server.answer({ offset: 6, attempt: 1 }, { attempt: 1, offset: 6 }, () => server.chunk(1, 6, "ghi"));
  server.send("stream.closed", CLOSED);
  await takes(full, chunk(1, 6, "ghi"), undefined);
  await takes(quick, chunk(1, 6, "ghi"), undefined);
  assert.deepEqual(full.end, CLOSED);
  await client.close();
});

test("a reader behind the answer to another one subscribes again", async () => {
  const { server, client, full, reader } = await withFullReader();
  const quick = reader({ offset: 3, attempt: 2 });
  await server.answer({ offset: 3, attempt: 2 }, { attempt: 2, offset: 3 }, () => server.chunk(2, 3, "er"));
  await server.answer({ offset: 0, attempt: 2 }, { attempt: 2, offset: 0 }, () => server.chunk(2, 0, "newer"));
  await takes(full, reset(2), chunk(2, 0, "newer"));
  await takes(quick, chunk(2, 3, "er"));
  await client.close();
});

test("an ended reader takes nothing of a later attempt", async () => {
  const { server, client, reader } = await connected();
  const ended = reader();
  await server.answer({ offset: 0 }, { attempt: 1, offset: 0 });
  server.send("stream.closed", CLOSED);
  const other = reader();
  await server.answer({ offset: 0 }, { attempt: 1, offset: 0 });
  server.send("stream.reset", { attempt: 2 });
  await takes(other, reset(2));
  await takes(ended, undefined);
  assert.deepEqual(ended.end, CLOSED);
  await client.close();
});
