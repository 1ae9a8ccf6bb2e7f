// The last events of the `global` channel, continued after a reconnect from the number last seen.

const MAX_ROWS = 50;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 10_000;

const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;
const state = document.getElementById("state");
const events = document.getElementById("events");
document.getElementById("address").textContent = address;

let seen = null; // { seq, epoch } of what this page has shown
let retryMs = FIRST_RETRY_MS;

function show(text, className) {
  state.textContent = text;
  state.className = className;
}

function add(message) {
  document.getElementById("none")?.remove();
  const { workflow_id, worker_id, pool_id, timestamp, ...rest } = message.data;
  const row = document.createElement("tr");
  const about = workflow_id ?? worker_id ?? pool_id ?? "";
  const time = new Date(message.timestamp).toLocaleTimeString();
  for (const text of [message.seq, time, message.event, about, JSON.stringify(rest).slice(0, 300)]) {
    row.insertCell().textContent = text;
  }
  events.prepend(row);
  while (events.rows.length > MAX_ROWS) events.deleteRow(-1);
}

function receive(socket, message) {
  if (message.event === "session.created") {
    retryMs = FIRST_RETRY_MS;
    const since = seen ?? { since: message.data.seq, epoch: message.data.epoch };
    socket.send(JSON.stringify({ type: "request", event: "subscribe", id: "1", data: { channel: "global", ...since } }));
  } else if (message.type === "response") {
    show(message.data.recovered ? "Live" : "Live (some events were missed)", "open");
    seen = { since: message.data.recovered ? (seen?.since ?? message.data.seq) : message.data.seq, epoch: message.data.epoch };
  } else if (message.type === "error") {
    show(message.error_message, "closed");
  } else if (message.seq !== undefined) {
    add(message);
    seen.since = message.seq;
  }
}

function connect() {
  const socket = new WebSocket(address);
  socket.onmessage = ({ data }) => receive(socket, JSON.parse(data));
  socket.onclose = () => {
    show(`Disconnected; trying again in ${retryMs / 1000} s`, "closed");
    setTimeout(connect, retryMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
  };
}

connect();
