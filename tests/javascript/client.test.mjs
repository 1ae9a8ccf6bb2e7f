// The JavaScript client with a scripted server: what the cases of clients/cases.json do not cover.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ClientClosed,
  ConnectionLost,
  connect,
  HistoryLost,
  ProtocolError,
  RequestFailed,
} from "../../clients/javascript/mahavishnu.js";
import { turn, until } from "./turns.mjs";

const EPOCH = "epoch_1";
const TIMESTAMP = "2026-02-10T20:00:00Z";

// A server in this program: one log, with the events of every channel.
class Server {
  sockets = [];
  received = [];
  log = [];
  limits = { max_messages_per_second: 10_000, max_message_burst: 10_000 };
  snapshots = new Map();

  constructor() {
    const server = this;
    this.WebSocket = class {
      readyState = 1;
      channels = new Set();

      constructor() {
        server.sockets.push(this);
        queueMicrotask(() => server.welcome(this));
      }

      send(text) {
        const message = JSON.parse(text);
        server.received.push(message);
        queueMicrotask(() => server.answer(this, message));
      }

      close() {
        this.readyState = 3;
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  write(fields, socket = this.socket) {
    socket.onmessage?.({ data: JSON.stringify(fields) });
  }

  welcome(socket) {
    const data = { epoch: EPOCH, seq: this.log.length, limits: this.limits };
    this.write({ type: "event", event: "session.created", data }, socket);
  }

  answer(socket, { type, event, data, id }) {
    if (type === "ping") this.write({ type: "pong", event: "pong", data: {}, correlation_id: id }, socket);
    if (event === "unsubscribe") socket.channels.delete(data.channel);
    if (event !== "subscribe") return;
    socket.channels.add(data.channel);
    const missed = this.log.filter(({ room, seq }) => room === data.channel && seq > data.since);
    const answer = { channel: data.channel, status: "subscribed", seq: this.log.length, epoch: EPOCH };
    if (data.since !== undefined) Object.assign(answer, { recovered: true, missed: missed.length });
    if (data.snapshot) answer.snapshot = this.snapshots.get(data.channel) ?? null;
    this.write({ type: "response", event, data: answer, correlation_id: id }, socket);
    if (data.since !== undefined) for (const message of missed) this.write({ ...message, replay: true }, socket);
  }

  emit(room, event = "pool.drained", data = {}) {
    const seq = this.log.length + 1;
    const message = { id: `id_${seq}`, type: "event", event, data: { timestamp: TIMESTAMP, ...data }, room, seq };
    this.log.push({ ...message, timestamp: TIMESTAMP });
    if (this.socket.channels.has(room)) this.write(this.log.at(-1));
  }

  lose(code = 1006) {
    const { socket } = this;
    socket.readyState = 3;
    socket.onclose?.({ code });
  }

  subscribes(channel) {
    return this.received.filter(({ event, data }) => event === "subscribe" && data.channel === channel);
  }
}

async function connected(options = {}) {
  const server = new Server();
  const client = connect("http://server", { WebSocket: server.WebSocket, firstRetryMs: 1, ...options });
  await client.waitLive();
  return { server, client };
}

async function take(iteration, count) {
  const items = [];
  while (items.length < count) items.push((await iteration.next()).value);
  return items;
}

const seqs = (items) => items.map(({ seq }) => seq);

test("a slow reader delays no state and no other reader of its channel, and loses nothing", async () => {
  const { server, client } = await connected({ maxQueuedEvents: 10 });
  server.snapshots.set("pool:p", { pool_id: "p", status: "active", metrics: {}, workers: [] });
  const slow = client.events("pool:p");
  const quick = client.events("pool:p");
  const store = client.pool("p");
  store.subscribe(() => {});
  await until(() => store.getSnapshot()?.isLive);
  for (let number = 0; number < 50; number += 1) {
    server.emit("pool:p", number % 2 ? "pool.reopened" : "pool.drained", { pool_id: "p" });
    await take(quick, 1);
  }
  server.emit("pool:p", "pool.closed", { pool_id: "p" });
  assert.equal(store.getSnapshot().status, "closed");
  assert.equal(store.getSnapshot().isLive, true);
  assert.deepEqual(seqs(await take(slow, 51)), Array.from({ length: 51 }, (_, index) => index + 1));
  assert.deepEqual(seqs(await take(quick, 1)), [51]);
  server.emit("pool:p");
  assert.deepEqual(seqs([...(await take(slow, 1)), ...(await take(quick, 1))]), [52, 52]);
  await client.close();
});

test("a channel is unsubscribed from while its only reader is full", async () => {
  const { server, client } = await connected({ maxQueuedEvents: 2 });
  const events = client.events("pool:p");
  await client.waitLive();
  for (let number = 0; number < 4; number += 1) server.emit("pool:p");
  await until(() => !server.socket.channels.has("pool:p"));
  assert.deepEqual(seqs(await take(events, 4)), [1, 2, 3, 4]);
  assert.ok(server.socket.channels.has("pool:p"));
  await client.close();
});

test("handlers run one after the other, and their errors end nothing", async () => {
  const errors = [];
  const { server, client } = await connected({ onError: (error) => errors.push(error.message) });
  const steps = [];
  client.on("pool:p", async ({ seq }) => {
    steps.push(`begin ${seq}`);
    await turn();
    steps.push(`end ${seq}`);
    if (seq === 1) throw new Error("the handler failed");
  });
  await client.waitLive();
  server.emit("pool:p");
  server.emit("pool:p");
  await until(() => steps.length === 4);
  assert.deepEqual(steps, ["begin 1", "end 1", "begin 2", "end 2"]);
  assert.deepEqual(errors, ["the handler failed"]);
  await client.close();
});

test("states are conflated, and unchanged ones are the same object", async () => {
  const { server, client } = await connected();
  server.snapshots.set("pool:p", { pool_id: "p", status: "active", metrics: {}, workers: [] });
  const states = client.pool("p")[Symbol.asyncIterator]();
  assert.equal((await states.next()).value.status, "active");
  for (const name of ["drained", "reopened", "drained", "closed"]) server.emit("pool:p", `pool.${name}`, { pool_id: "p" });
  assert.equal((await states.next()).value.status, "closed");
  const store = client.pool("p");
  assert.equal(store.getSnapshot(), store.getSnapshot());
  const { workers } = store.getSnapshot();
  server.emit("pool:p", "pool.reopened", { pool_id: "p" });
  assert.equal(store.getSnapshot().workers, workers);
  server.emit("pool:p", "pool.removed", { pool_id: "p" });
  assert.deepEqual(await states.next(), { value: undefined, done: true });
  await client.close();
});

test("a state is marked as old when the connection ends, with the time of the last message", async () => {
  const { server, client } = await connected({ maxRetryMs: 1 });
  server.snapshots.set("pool:p", { pool_id: "p", status: "active", metrics: {}, workers: [] });
  const seen = [];
  const before = new Date();
  client.pool("p").on((pool) => seen.push([pool.isLive, pool.asOf >= before && pool.asOf <= new Date()]));
  await client.waitLive();
  server.lose();
  await client.waitLive();
  assert.deepEqual(seen, [
    [true, true],
    [false, true],
    [true, true],
  ]);
  await client.close();
});

test("a store subscribes while it is used, and once for several listeners", async () => {
  const { server, client } = await connected();
  const stops = [1, 2].map(() => client.pool("p").subscribe(() => {}));
  await client.waitLive();
  assert.equal(server.subscribes("pool:p").length, 1);
  stops[0]();
  // As React does in its strict mode: away, and back at once.
  stops[1]();
  const stop = client.pool("p").subscribe(() => {});
  await turn();
  assert.ok(server.socket.channels.has("pool:p"));
  stop();
  await until(() => !server.socket.channels.has("pool:p"));
  assert.equal(client.pool("p").getSnapshot(), undefined);
  await client.close();
});

test("many channels are subscribed to within the limits of the server", async () => {
  const server = new Server();
  server.limits = { max_messages_per_second: 1000, max_message_burst: 50 };
  let inFlight = 0;
  let mostInFlight = 0;
  const answer = server.answer.bind(server);
  server.answer = (socket, message) => {
    inFlight += 1;
    mostInFlight = Math.max(mostInFlight, inFlight);
    setTimeout(() => {
      inFlight -= 1;
      answer(socket, message);
    }, 1);
  };
  const client = connect("ws://server", { WebSocket: server.WebSocket });
  const began = performance.now();
  for (let number = 0; number < 100; number += 1) client.events(`pool:${number}`);
  await client.waitLive();
  assert.equal(server.received.length, 100);
  assert.ok(mostInFlight <= 16, `${mostInFlight} at once`);
  // 40 at once and 800 a second: four fifths of the limits.
  assert.ok(performance.now() - began >= 70);
  await client.close();
});

test("the position is that of the handled events, and session.position moves quiet channels", async () => {
  const { server, client } = await connected();
  const events = client.events("pool:p");
  client.events("pool:quiet");
  await client.waitLive();
  server.emit("pool:p");
  server.emit("pool:p");
  await take(events, 2);
  assert.deepEqual(client.position, { seq: 0, epoch: EPOCH, channels: { "pool:p": 1, "pool:quiet": 0 } });
  server.write({ type: "event", event: "session.position", data: { seq: 7, epoch: EPOCH } });
  assert.deepEqual(client.position.channels, { "pool:p": 1, "pool:quiet": 7 });
  const next = events.next();
  assert.deepEqual(client.position, { seq: 7, epoch: EPOCH, channels: { "pool:p": 7, "pool:quiet": 7 } });
  await client.close();
  assert.equal((await next).done, true);
  assert.equal(client.position.seq, 7);
});

test("resumeFrom starts each channel at its own position, the first time only", async () => {
  const server = new Server();
  const resumeFrom = { seq: 2, epoch: EPOCH, channels: { "pool:p": 5 } };
  for (let number = 0; number < 9; number += 1) server.log.push({ room: "other", seq: number + 1 });
  const client = connect("ws://server", { WebSocket: server.WebSocket, resumeFrom });
  client.events("pool:p").close();
  client.events("pool:q");
  await client.waitLive();
  client.events("pool:p");
  await client.waitLive();
  assert.deepEqual(
    server.received.filter(({ event }) => event === "subscribe").map(({ data }) => [data.channel, data.since]),
    [
      ["pool:q", 2],
      ["pool:p", 9],
    ],
  );
  await client.close();
});

test("lost history is an item, and a state is read anew", async () => {
  const { server, client } = await connected();
  const events = client.events("pool:p");
  const store = client.pool("p");
  store.subscribe(() => {});
  await client.waitLive();
  server.snapshots.set("pool:p", { pool_id: "p", status: "draining", metrics: {}, workers: [] });
  const answer = server.answer.bind(server);
  server.answer = (socket, message) => {
    if (message.data.since === undefined) return answer(socket, message);
    const data = { channel: "pool:p", seq: 30, epoch: "epoch_2", recovered: false, missed: 0, reason: "epoch" };
    if (message.data.snapshot) data.snapshot = server.snapshots.get("pool:p");
    return server.write({ type: "response", event: "subscribe", data, correlation_id: message.id }, socket);
  };
  server.lose();
  const [item] = await take(events, 1);
  assert.ok(item instanceof HistoryLost);
  assert.deepEqual({ ...item }, { channel: "pool:p", reason: "epoch", seq: 30, epoch: "epoch_2" });
  await until(() => store.getSnapshot()?.status === "draining");
  await client.close();
});

test("attempts to connect are spread, and wait for the server's time", async () => {
  const retries = [];
  class Unreachable {
    constructor() {
      setTimeout(() => this.onclose?.({ code: 1006 }), 0);
    }

    close() {}
  }
  const client = connect("ws://server", { WebSocket: Unreachable, firstRetryMs: 4, maxRetryMs: 32 });
  let last = null;
  await until(() => {
    if (client.retryAt && client.retryAt !== last) {
      last = client.retryAt;
      retries.push(last - Date.now());
    }
    return retries.length === 12;
  });
  assert.ok(Math.max(...retries) <= 33);
  assert.ok(new Set(retries).size > 3, `not random: ${retries}`);
  assert.equal(client.state, "offline");
  await client.close();

  const draining = await connected();
  const began = performance.now();
  draining.server.write({ type: "event", event: "session.draining", data: { retry_after_ms: 60 } });
  assert.equal(draining.client.state, "draining");
  draining.server.lose(1012);
  draining.client.probe();
  await draining.client.waitLive();
  assert.ok(performance.now() - began >= 58);
  await draining.client.close();
});

test("requests and iterations end when the client is closed", async () => {
  const { client } = await connected();
  const request = client.getPoolStatus("p");
  const states = client.follow("wf").next();
  const events = client.events("pool:p").next();
  await client.close();
  await assert.rejects(request, ClientClosed);
  assert.equal((await states).done, true);
  assert.equal((await events).done, true);
  await assert.rejects(client.getPoolStatus("p"), ClientClosed);
  assert.throws(() => client.events("pool:p"), ClientClosed);
  assert.equal(client.state, "closed");
});

test("a subscription that the server refuses is an error of its reader", async () => {
  const errors = [];
  const { server, client } = await connected({ onError: (error) => errors.push(error.code) });
  server.answer = (socket, { id, event }) => {
    const error = { error_code: "INVALID_CHANNEL", error_message: "No such channel", retryable: false };
    server.write({ type: "error", event, data: {}, correlation_id: id, ...error }, socket);
  };
  await assert.rejects(client.events("planet:mars").next(), RequestFailed);
  await assert.rejects(client.subscribeToChannel("planet:mars"), { name: "RequestFailed", code: "INVALID_CHANNEL" });
  await assert.rejects(client.follow("mars").next(), RequestFailed);
  client.workflow("mars").on(() => {});
  await until(() => errors.length === 1);
  assert.equal(client.state, "live");
  await client.close();
});

test("no connection in time is an error of requests and subscriptions", async () => {
  class Silent {
    close() {}
  }
  const client = connect("ws://server", { WebSocket: Silent, requestTimeoutMs: 10 });
  await assert.rejects(client.getPoolStatus("p"), (error) => error instanceof ConnectionLost && !error.maybeDone);
  await assert.rejects(client.subscribeToChannel("pool:p"), ConnectionLost);
  await client.close();
});

const pool = (fields) => ({ pool_id: "p", status: "active", metrics: {}, workers: [], ...fields });
const isLiveStatus = ({ status, isLive }) => [status, isLive];

test("a state shows what its channel missed while another reader joined", async () => {
  const { server, client } = await connected();
  server.snapshots.set("pool:p", pool());
  const seen = [];
  client.pool("p").on((state) => seen.push(isLiveStatus(state)));
  await client.waitLive();
  // Logged between the request and its answer: it comes as a replay only.
  const answer = server.answer.bind(server);
  server.answer = (socket, message) => {
    if (message.event === "subscribe") {
      server.answer = answer;
      server.log.push({ type: "event", event: "pool.drained", data: { pool_id: "p" }, room: "pool:p", seq: 1 });
    }
    answer(socket, message);
  };
  const events = client.events("pool:p", { resumeFrom: { seq: 0, epoch: EPOCH } });
  assert.deepEqual(seqs(await take(events, 1)), [1]);
  assert.deepEqual(seen.at(-1), ["draining", true]);
  await client.close();
});

test("a live state stays up to date while a request of another reader is limited", async () => {
  const { server, client } = await connected();
  server.snapshots.set("pool:p", pool());
  const store = client.pool("p");
  store.subscribe(() => {});
  const events = client.events("pool:p");
  await client.waitLive();
  const error = { type: "error", event: "subscribe", error_code: "RATE_LIMIT_EXCEEDED", error_message: "", retryable: true };
  const answer = server.answer.bind(server);
  server.answer = (socket, { id }) => server.write({ ...error, retry_after_ms: 50, correlation_id: id }, socket);
  const joined = client.events("pool:p", { resumeFrom: { seq: 0, epoch: EPOCH } });
  await turn();
  server.answer = answer;
  server.emit("pool:p", "pool.drained", { pool_id: "p" });
  assert.deepEqual(isLiveStatus(store.getSnapshot()), ["draining", true]);
  assert.deepEqual(seqs(await take(events, 1)), [1]);
  assert.deepEqual(seqs(await take(joined, 1)), [1]);
  await client.close();
});

test("a state is not live while the server has ended its subscription", async () => {
  const { server, client } = await connected();
  server.snapshots.set("pool:p", pool());
  const store = client.pool("p");
  store.subscribe(() => {});
  await client.waitLive();
  const error = { type: "error", event: "subscribe", error_code: "SERVER_ERROR", error_message: "", retryable: true };
  server.answer = (socket, { id }) => {
    socket.channels.clear();
    server.write({ ...error, correlation_id: id }, socket);
  };
  client.events("pool:p", { resumeFrom: { seq: 0, epoch: EPOCH } });
  await until(() => !store.getSnapshot().isLive);
  await client.close();
});

test("a state without listeners is not shown later as live", async () => {
  const { server, client } = await connected();
  server.snapshots.set("pool:p", pool());
  const events = client.events("pool:p");
  const store = client.pool("p");
  const stop = store.subscribe(() => {});
  await client.waitLive();
  stop();
  await turn();
  client.events("pool:p", { resumeFrom: { seq: 0, epoch: EPOCH } });
  server.snapshots.set("pool:p", pool({ status: "draining" }));
  server.emit("pool:p", "pool.drained", { pool_id: "p" });
  assert.deepEqual(seqs(await take(events, 1)), [1]);
  assert.equal(store.getSnapshot(), undefined);
  const seen = [];
  store.on((state) => seen.push(isLiveStatus(state)));
  await until(() => seen.length > 0);
  assert.deepEqual(seen, [["draining", true]]);
  await client.close();
});

test("a reader that joins during a request receives everything after its position", async () => {
  const { server, client } = await connected();
  for (let number = 0; number < 3; number += 1) server.emit("pool:p");
  // As many requests as the server works on, and more: the next one of the channel has to wait.
  const answer = server.answer.bind(server);
  const held = [];
  server.answer = (socket, message) => {
    if (message.data?.channel === "pool:p") answer(socket, message);
    else held.push(() => answer(socket, message));
  };
  const join = (channel, seq) => client.events(channel, { resumeFrom: { seq, epoch: EPOCH } });
  for (let number = 0; number < 15; number += 1) join(`pool:${number}`, 3);
  const first = join("pool:p", 2);
  for (let number = 15; number < 20; number += 1) join(`pool:${number}`, 3);
  const second = join("pool:p", 0);
  assert.deepEqual(seqs(await take(first, 1)), [3]);
  server.answer = answer;
  for (const release of held) release();
  assert.deepEqual(seqs(await take(second, 3)), [1, 2, 3]);
  await client.close();
});

for (const text of ["null", "{", "[]", '{"type":"event","room":"pool:p","seq":"1","data":{}}', '{"type":"event","event":"session.created"}']) {
  test(`the connection is replaced after the message ${text}`, async () => {
    const errors = [];
    const { server, client } = await connected({ onError: (error) => errors.push(error) });
    const events = client.events("pool:p");
    await client.waitLive();
    server.socket.onmessage({ data: text });
    server.log.push({ type: "event", event: "pool.drained", data: {}, room: "pool:p", seq: 1 });
    assert.deepEqual(seqs(await take(events, 1)), [1]);
    assert.equal(server.sockets.length, 2);
    assert.equal(errors.length, 1);
    assert.ok(errors[0] instanceof ProtocolError && client.lastError === errors[0]);
    await client.close();
  });
}

test("a position that is none is an error", () => {
  const { WebSocket } = new Server();
  for (const resumeFrom of [{}, "5@epoch", { seq: "5", epoch: EPOCH }, { seq: 5, epoch: "" }]) {
    assert.throws(() => connect("ws://server", { WebSocket, resumeFrom }), /Invalid position/);
  }
});

test("an invalid URL is an error, and leaves no timer", () => {
  const count = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = count();
  assert.throws(() => connect("nonsense://server"), { name: "SyntaxError" });
  assert.equal(count(), before);
});

test("a closed client calls no handler, and ends requests that wait to be sent again", async () => {
  const { server, client } = await connected();
  const handled = [];
  client.on("pool:p", async ({ seq }) => {
    handled.push(seq);
    await client.close();
  });
  await client.waitLive();
  const error = { type: "error", event: "list_pools", error_code: "RATE_LIMIT_EXCEEDED", error_message: "", retryable: true };
  const request = client.listPools();
  await until(() => server.received.at(-1).event === "list_pools");
  server.write({ ...error, retry_after_ms: 20_000, correlation_id: server.received.at(-1).id });
  await turn();
  server.emit("pool:p");
  server.emit("pool:p");
  await assert.rejects(request, ClientClosed);
  await turn();
  assert.deepEqual(handled, [1]);
});
