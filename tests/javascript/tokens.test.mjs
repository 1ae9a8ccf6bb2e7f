// Tokens of the JavaScript client, with a scripted server: what the cases of clients/cases.json do not cover.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";

import {
  AuthenticationError,
  ClientError,
  connect,
  Forbidden,
} from "../../clients/javascript/mahavishnu.js";

const SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl";
const REFUSAL = { error_code: "AUTH_FAILED", error_message: "The token is invalid or expired", retryable: false };

const until = async (condition) => {
  const lateAt = Date.now() + 5000;
  while (!condition()) {
    assert.ok(Date.now() < lateAt, `not in time: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
};

// A server in this program: it accepts the tokens in `accepted`, and answers every request.
class Server {
  accepted = new Set();
  sockets = [];
  received = [];
  isSilent = false;

  constructor(...accepted) {
    const server = this;
    this.accepted = new Set(accepted);
    this.WebSocket = class {
      readyState = 1;

      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        server.sockets.push(this);
        queueMicrotask(() => server.open(this));
      }

      send(text) {
        const message = JSON.parse(text);
        server.received.push(message);
        if (!server.isSilent) queueMicrotask(() => server.answer(message));
      }

      close() {
        this.readyState = 3;
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get token() {
    return this.socket.protocols?.[1].replace("bearer.", "");
  }

  write(fields) {
    this.socket.onmessage?.({ data: JSON.stringify(fields) });
  }

  open(socket) {
    socket.onopen?.();
    if (this.isSilent) return;
    const data = { epoch: "epoch_1", seq: 0 };
    if (this.accepted.has(this.token)) this.write({ type: "event", event: "session.created", data });
    else this.write({ type: "error", event: "error", data: {}, ...REFUSAL });
  }

  answer({ event, id, data }) {
    const answer = { channel: data?.channel, seq: 0, epoch: "epoch_1", recovered: true, missed: 0, snapshot: null };
    const fields = event === "subscribe" ? answer : {};
    this.write({ type: "response", event, data: fields, correlation_id: id });
  }

  expiring() {
    this.write({ type: "event", event: "session.expiring", data: { expires_in_ms: 1000 } });
  }

  refreshes() {
    return this.received.filter(({ event }) => event === "refresh_token").map(({ data }) => data.token);
  }
}

// A function that returns each token once, and then the last one. An error is thrown.
function tokens(...given) {
  const next = async () => {
    next.calls += 1;
    const token = given.length > 1 ? given.shift() : given[0];
    if (token instanceof Error) throw token;
    return token;
  };
  next.calls = 0;
  return next;
}

const client = (server, options) =>
  connect("ws://server", { WebSocket: server.WebSocket, firstRetryMs: 1, maxRetryMs: 5, ...options });

test("the token is a subprotocol, and nothing else shows it", async () => {
  for (const token of [SECRET, tokens(`${SECRET}\n`, `${SECRET}2`)]) {
    const server = new Server(SECRET);
    const one = client(server, { token });
    await one.waitLive();
    assert.deepEqual(server.socket.protocols, ["mahavishnu.v1", `bearer.${SECRET}`]);
    assert.equal(server.socket.url, "ws://server");
    server.expiring();
    await until(() => typeof token === "string" || server.refreshes().length === 1);
    assert.ok(!inspect(one, { depth: null, showHidden: true, getters: true }).includes(SECRET));
    assert.ok(!JSON.stringify(one._options).includes("token"));
    await one.close();
  }
  const server = new Server(undefined);
  const without = client(server, {});
  await without.waitLive();
  assert.equal(server.socket.protocols, undefined);
  await without.close();
});

test("a URL with a token and an invalid token are rejected, and not shown", () => {
  const isRejected = (url, token) => {
    assert.throws(
      () => connect(url, { token, WebSocket: new Server().WebSocket }),
      (error) => error instanceof TypeError && !error.message.includes(SECRET) && !error.message.includes("two"),
    );
  };
  for (const url of [`ws://h/?token=${SECRET}`, `ws://h/?a=b&access_token=${SECRET}`, `ws://h/#Token=${SECRET}`]) {
    isRejected(url, null);
  }
  for (const token of ["", "two words", `${SECRET}\r\nX-Header: 1`, "é", 5]) isRejected("ws://server", token);
  isRejected("ftp://server", async () => SECRET);
  isRejected("//", async () => SECRET);
});

test("the client ends after one more token of its function", async () => {
  const server = new Server(SECRET);
  const token = tokens("old", "older", SECRET);
  const errors = [];
  const one = client(server, { token, onError: (error) => errors.push(error) });
  const ends = [one.waitLive(), one.getPoolStatus("a"), one.follow("wf").next(), one.events("global").next()];
  one.pool("a").on(() => {});
  one.workflow("wf").on(() => {}, (error) => errors.push(error));
  for (const end of ends) await assert.rejects(end, { name: "AuthenticationError", code: "AUTH_FAILED" });
  await assert.rejects(one.getPoolStatus("a"), AuthenticationError);
  await assert.rejects(one.waitLive(), AuthenticationError);
  await assert.rejects(one.subscribeToChannel("global"), AuthenticationError);
  assert.throws(() => one.events("global"), AuthenticationError);
  assert.deepEqual([one.state, token.calls, server.sockets.length], ["closed", 2, 2]);
  assert.ok(one.lastError instanceof AuthenticationError);
  assert.equal(errors.filter((error) => error instanceof AuthenticationError).length, 2);
  await one.close();
});

test("each expiry gets one new token, and a token that is accepted for a moment only gets none", async () => {
  const server = new Server("one", "two", "three");
  const token = tokens("one", "two", "three", "four");
  const one = client(server, { token, stableAfterMs: 20 });
  for (let expiry = 0; expiry < 2; expiry += 1) {
    await one.waitLive();
    await new Promise((resolve) => setTimeout(resolve, 30));
    server.write({ type: "error", event: "error", data: {}, ...REFUSAL });
  }
  await one.waitLive();
  server.write({ type: "error", event: "error", data: {}, ...REFUSAL });
  assert.deepEqual([one.state, token.calls], ["closed", 3]);
});

test("a function that fails is called again after a pause", async () => {
  const server = new Server(SECRET);
  const errors = [];
  const token = tokens(new RangeError(SECRET), new Error("no"), "two words", 5, ` ${SECRET}\n`);
  const one = client(server, { token, onError: (error) => errors.push(error) });
  await one.waitLive();
  assert.equal(token.calls, 5);
  assert.ok(errors.every((error) => error instanceof ClientError && !error.message.includes(SECRET)));
  assert.equal(errors[0].message, "The token function failed: RangeError");
  assert.equal(one.lastError, errors.at(-1));
  await one.close();
  const slow = client(server, { token: () => new Promise(() => {}), requestTimeoutMs: 5, onError: () => {} });
  await until(() => slow.lastError?.message === "No token within 5 ms");
  await slow.close();
});

test("a client that is closed meanwhile does not connect", async () => {
  const server = new Server(SECRET);
  let give;
  const token = new Promise((resolve) => {
    give = resolve;
  });
  const one = client(server, { token: () => token });
  await one.close();
  give(SECRET);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(server.sockets.length, 0);
});

test("a new token is sent over the same connection, once, and not over the next one", async () => {
  const server = new Server("one", "two", "three");
  // The second answer is no new token.
  const token = tokens("one", "one", new Error("no"), "two", "three");
  const one = client(server, { token, onError: () => {} });
  await one.waitLive();
  server.expiring();
  server.expiring();
  await until(() => server.refreshes().length === 1);
  assert.deepEqual([server.refreshes(), server.sockets.length, token.calls], [["two"], 1, 4]);
  await until(() => one.state === "live");

  server.isSilent = true;
  server.expiring();
  await until(() => server.refreshes().length === 2);
  server.isSilent = false;
  server.socket.onclose({ code: 1006 });
  await one.waitLive();
  await one.getServerStatus();
  assert.deepEqual(server.refreshes(), ["two", "three"]);
  await one.close();
});

test("a subscription that the server ends is an error of its readers only", async () => {
  const server = new Server(SECRET);
  const one = client(server, { token: SECRET });
  const ended = one.events("pool:a").next();
  const state = one.pool("a")[Symbol.asyncIterator]().next();
  const other = one.events("pool:b").next();
  const store = one.pool("a");
  let changes = 0;
  store.subscribe(() => {
    changes += 1;
  }, () => {});
  await one.waitLive();
  assert.deepEqual([store.getSnapshot(), changes], [null, 1]);
  server.write({ type: "event", event: "session.unsubscribed", data: { channel: "pool:a", reason: "forbidden" } });
  // A page that shows the state must not show it as live.
  assert.deepEqual([store.getSnapshot(), changes], [undefined, 2]);
  server.write({ type: "event", event: "session.unsubscribed", data: { channel: "pool:c", reason: "forbidden" } });
  for (const end of [ended, state]) {
    await assert.rejects(end, (error) => error instanceof Forbidden && error.code === "FORBIDDEN" && !error.retryable);
  }
  server.write({ type: "event", event: "pool.drained", data: {}, room: "pool:b", seq: 1, id: "1", timestamp: "" });
  assert.equal((await other).value.seq, 1);
  assert.equal(one.state, "live");
  await one.close();
});

test("a server that waits for a token may say so later than a connection may take to open", async () => {
  const server = new Server(SECRET);
  server.isSilent = true;
  const one = client(server, { openTimeoutMs: 5, pingAfterMs: 500, pongWithinMs: 500 });
  await new Promise((resolve) => setTimeout(resolve, 30));
  server.write({ type: "error", event: "error", data: {}, ...REFUSAL, error_code: "AUTH_REQUIRED" });
  await assert.rejects(one.waitLive(), { name: "AuthenticationError", code: "AUTH_REQUIRED" });
  assert.equal(server.sockets.length, 1);
});
