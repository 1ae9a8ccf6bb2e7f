// A user's program, which the compiler checks against the types of the client. It is never run.
import { connect, HistoryLost } from "../../../clients/javascript/mahavishnu.js";

const client = connect("ws://127.0.0.1:8690");

for await (const run of client.follow("wf_1")) {
  const live: boolean = run.isLive;
  const names: string[] = run.stages.map((stage) => stage.stage_name);
  console.log(run.status, live, names);
}

for await (const item of client.events("global")) {
  if (item instanceof HistoryLost) console.log(item.reason);
  else if (item.name === "workflow.failed") console.log(item.seq, item.data);
}

const { workflows, next_cursor } = await client.listWorkflows({ status: ["failed", "timeout"], limit: 10 });
const ids: string[] = workflows.map((workflow) => workflow.workflow_id);
const cursor: string | null = next_cursor;
console.log(ids, cursor);

connect("ws://127.0.0.1:8690", { token: async () => "token" });
connect("ws://127.0.0.1:8690", { token: "token" });
// @ts-expect-error: a number is no token.
connect("ws://127.0.0.1:8690", { token: () => 5 });
// @ts-expect-error: a number is no channel.
client.events(5);
// @ts-expect-error: no such request.
await client.makeCoffee();
