// Show the latest events of one channel. After a reconnect, resume from the last event shown.

import { escapeLine } from "./escape.js";

const MAX_ROWS = 100;
const MAX_DATA_CHARACTERS = 300;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 10_000;

const host = document.body.dataset.websocketHost || location.host;
// The page and the WebSocket have the same path, also below a prefix.
const path = location.pathname === "/" ? "" : location.pathname;
const address = `${location.protocol === "https:" ? "wss" : "ws"}://${host}${path}`;
const [state, events, none, choose, input, pause] = ["state", "events", "none", "choose", "channel", "pause"].map(
  (id) => document.getElementById(id),
);
document.getElementById("address").textContent = address;

let channel = location.hash.slice(1) || "global";
let socket = null;
let epoch = null; // the log that `since` belongs to
let since = null; // position of the last event received, or of the start
let retryMs = FIRST_RETRY_MS;
let pending = []; // messages that are not in the table yet

function show(text, className) {
  state.textContent = escapeLine(text);
  state.className = className;
}

// Update the table once per animation frame, however many events arrive.
function queueRow(message) {
  if (pending.length === 0) requestAnimationFrame(addPendingRows);
  pending.push(message);
  if (pending.length > MAX_ROWS) pending.shift();
}

function addPendingRows() {
  if (pause.ariaPressed === "true") return;
  none.hidden = none.hidden || pending.length > 0;
  events.prepend(...pending.map(rowOf).reverse());
  pending = [];
  while (events.rows.length > MAX_ROWS) events.deleteRow(-1);
}

function rowOf(message) {
  // What the event is about: "worker.added" is about the worker, although it may also have the id of a workflow.
  const id = `${message.event.split(".")[0]}_id`;
  const { [id]: about, timestamp, test, ...rest } = message.data;
  const row = document.createElement("tr");
  row.classList.toggle("test", test === true);
  const cells = {
    seq: message.seq,
    time: new Date(message.timestamp).toLocaleTimeString(),
    event: message.event,
    about: about ?? "",
    // One line, with spaces where it may wrap, and without half of a surrogate pair at its end.
    data: JSON.stringify(rest, null, 1)
      .replace(/\n */g, " ")
      .slice(0, MAX_DATA_CHARACTERS)
      .replace(/[\ud800-\udbff]$/, ""),
  };
  for (const [name, text] of Object.entries(cells)) {
    const cell = row.insertCell();
    cell.className = name;
    cell.textContent = escapeLine(String(text));
  }
  return row;
}

function request(event, data) {
  socket.send(JSON.stringify({ type: "request", event, id: `${event} ${data.channel}`, data }));
}

function receive(message) {
  if (message.event === "session.created") {
    retryMs = FIRST_RETRY_MS;
    since ??= message.data.seq;
    epoch ??= message.data.epoch;
    request("subscribe", { channel, since, epoch });
  } else if (message.type === "response" && message.event === "subscribe") {
    if (message.data.channel !== channel) return;
    show(message.data.recovered ? `Live: ${channel}` : `Live: ${channel}; some events were missed`, "open");
    if (!message.data.recovered) since = message.data.seq;
    epoch = message.data.epoch;
  } else if (message.type === "error") {
    show(message.error_message, "closed");
    // Too many replays: subscribe again when the server allows the next one.
    if (message.event === "subscribe" && message.retry_after_ms) setTimeout(resubscribe, message.retry_after_ms, socket);
  } else if (message.room === channel && message.seq > since) {
    since = message.seq;
    queueRow(message);
  }
}

function resubscribe(rejecting) {
  if (rejecting === socket && socket.readyState === WebSocket.OPEN) request("subscribe", { channel, since, epoch });
}

function connect() {
  socket = new WebSocket(address);
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = () => {
    const waitMs = retryMs * (0.5 + Math.random() / 2);
    show(`Disconnected; reconnecting in ${(waitMs / 1000).toFixed(1)} s`, "closed");
    setTimeout(connect, waitMs);
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
  };
}

function subscribeTo(chosen) {
  if (chosen === channel) return;
  const isOpen = socket.readyState === WebSocket.OPEN;
  if (isOpen) request("unsubscribe", { channel });
  channel = chosen;
  location.hash = channel === "global" ? "" : channel;
  events.replaceChildren();
  pending = [];
  none.hidden = false;
  // `since` is a position of the whole log. Events of the new channel after that position are replayed first.
  if (isOpen) request("subscribe", { channel, since, epoch });
}

choose.addEventListener("submit", (event) => {
  event.preventDefault();
  subscribeTo(input.value.trim());
});
pause.addEventListener("click", () => {
  pause.ariaPressed = pause.ariaPressed === "true" ? "false" : "true";
  addPendingRows();
});
addEventListener("hashchange", () => {
  input.value = location.hash.slice(1) || "global";
  if (input.checkValidity()) subscribeTo(input.value);
});

input.value = channel;
connect();
