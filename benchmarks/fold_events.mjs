// Fold the events of many runs: alone, with the decoding of their messages, and in a client. Write the figures as JSON.

const [module, runs, rounds] = process.argv.slice(2);
const RUNS = Number(runs);
const STAGES = 8;
const EPOCH = "benchmark";
const { connect, decodeState, fold } = await import(module);

let seq = 0;

function message(run, name, data) {
  seq += 1;
  const timestamp = new Date(Date.UTC(2026, 1, 10) + seq).toISOString();
  const room = `workflow:${run}`;
  const id = `00000000-0000-4000-8000-${String(seq).padStart(12, "0")}`;
  return JSON.stringify({
    id,
    type: "event",
    event: name,
    data: { timestamp, workflow_id: run, ...data },
    timestamp,
    room,
    seq,
  });
}

// The messages of all runs, one event of each run after the other: as a client receives them.
function* messages() {
  const ids = Array.from({ length: RUNS }, (_, number) => `wf_${number}`);
  const stages = Array.from({ length: STAGES }, (_, step) => ({ stage_name: `stage_${step}`, step, last_attempt: 1 }));
  const created = {
    ...{ adapter: "python", prompt: "Measure it", name: "benchmark", pool_id: "pool", params: { path: "/srv" } },
    ...{ deadline_at: null, total_stages: STAGES, stages },
  };
  for (const id of ids) yield message(id, "workflow.created", created);
  for (const id of ids) yield message(id, "workflow.started", { adapter: "python", prompt: "Measure it", name: "benchmark" });
  for (const { stage_name, step } of stages) {
    const steps = [
      ["workflow.stages_queued", { stages: null, step, count: 1 }],
      ["workflow.stage_started", { stage_name, worker_id: "worker_1", attempt: 1 }],
      ["workflow.stage_progress", { stage_name, progress: 0.5, message: "Half of it" }],
      ["workflow.stage_log", { stage_name, message: "A line of a log" }],
      ["workflow.stage_completed", { stage_name, result: { output: 1 }, duration_ms: 12, stages_completed: step + 1 }],
    ];
    for (const [name, data] of steps) for (const id of ids) yield message(id, name, data);
  }
  for (const id of ids) yield message(id, "workflow.completed", { name: "benchmark", result: { final_output: 1 } });
}

const texts = [...messages()];
const eventOf = ({ event: name, data }) => ({ name, data });

// Of processor time, so that other programs do not count.
function perSecond(began) {
  const { user, system } = process.cpuUsage(began);
  return texts.length / ((user + system) / 1e6);
}

function foldAlone() {
  const events = texts.map((text) => JSON.parse(text));
  const states = new Map();
  const began = process.cpuUsage();
  for (const event of events) states.set(event.room, fold(event.room, states.get(event.room) ?? null, eventOf(event)));
  const result = perSecond(began);
  for (const state of states.values()) if (state.status !== "completed") throw new Error("a run is not completed");
  return result;
}

function decodeAndFold() {
  const states = new Map();
  const began = process.cpuUsage();
  for (const text of texts) {
    const event = JSON.parse(text);
    states.set(event.room, fold(event.room, states.get(event.room) ?? null, eventOf(event)));
  }
  return perSecond(began);
}

// A socket whose server is this program.
class Socket {
  constructor() {
    Socket.last = this;
  }

  send(text) {
    const { id, event, data } = JSON.parse(text);
    if (event !== "subscribe") return;
    const answer = { channel: data.channel, status: "subscribed", seq: 0, epoch: EPOCH, snapshot: null };
    this.answer({ id, type: "response", event, data: answer, correlation_id: id });
  }

  answer(fields) {
    queueMicrotask(() => this.onmessage({ data: JSON.stringify(fields) }));
  }

  close() {}
}

async function client() {
  const following = connect("ws://benchmark", { WebSocket: Socket });
  const limits = { max_messages_per_second: 1e6, max_message_burst: 1e6 };
  Socket.last.answer({ type: "event", event: "session.created", data: { epoch: EPOCH, seq: 0, limits } });
  const stores = Array.from({ length: RUNS }, (_, number) => following.workflow(`wf_${number}`));
  let changes = 0;
  for (const store of stores) store.subscribe(() => (changes += 1));
  await following.waitLive();
  globalThis.gc();
  const heapBefore = process.memoryUsage().heapUsed;
  const began = process.cpuUsage();
  for (const text of texts) Socket.last.onmessage({ data: text });
  const result = perSecond(began);
  globalThis.gc();
  const bytes = (process.memoryUsage().heapUsed - heapBefore) / RUNS;
  for (const store of stores) if (store.getSnapshot().status !== "completed") throw new Error("a run is not completed");
  await following.close();
  return { result, bytes };
}

const figures = { fold: [], decode_and_fold: [], client: [], bytes_per_run: [] };
decodeState("workflow:w", null);
for (let round = 0; round <= Number(rounds); round += 1) {
  const measured = { fold: foldAlone(), decode_and_fold: decodeAndFold(), ...(await client()) };
  // The first round is that of a cold runtime.
  if (round === 0) continue;
  figures.fold.push(measured.fold);
  figures.decode_and_fold.push(measured.decode_and_fold);
  figures.client.push(measured.result);
  figures.bytes_per_run.push(measured.bytes);
}
console.log(JSON.stringify({ events: texts.length, ...figures }));
