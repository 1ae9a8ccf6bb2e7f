// Operations: each says before what will happen, then what the server answered. The change itself comes by the socket.

import { Problem, operate } from "./api.js";
import { seenSeq } from "./connection.js";
import { ask } from "./dialog.js";
import { counted, nameOf, number, shown } from "./format.js";
import { html, signal } from "./lib.js";
import { goTo, urlOfRun } from "./routes.js";
import { settings } from "./settings.js";
import { toast } from "./toasts.js";

/** How long "Cancelling…" is shown at most: by then the change has come, or the page is not live. */
const PENDING_MS = 15_000;

/** What is being done, by resource (`workflow:wf_1`). */
const pending = signal(/** @type {Map<string, {word: string, seq: number | null}>} */ (new Map()));

/** Return what is being done to a resource, such as "Cancelling…"; empty if nothing is. @param {string} resource */
export function pendingWord(resource) {
  const action = pending.value.get(resource);
  if (!action || (action.seq !== null && seenSeq.value >= action.seq)) return "";
  return action.word;
}

/** @param {string} resource @param {{word: string, seq: number | null} | null} action */
function setPending(resource, action) {
  const changed = new Map(pending.value);
  if (action) changed.set(resource, action);
  else changed.delete(resource);
  pending.value = changed;
}

/**
 * Do something, and say if it is refused.
 * @param {string} resource @param {string} word @param {string} path @param {object} [body]
 * @returns {Promise<any>} The answer; null if it was refused.
 */
async function run(resource, word, path, body) {
  const action = { word, seq: /** @type {number | null} */ (null) };
  setPending(resource, action);
  setTimeout(() => pending.peek().get(resource)?.word === word && setPending(resource, null), PENDING_MS);
  try {
    const answer = await operate(path, body);
    setPending(resource, { ...action, seq: answer.seq });
    return answer;
  } catch (error) {
    setPending(resource, null);
    toast(error instanceof Problem ? shown(error.message) : "No answer from the server: it may not have been done");
    return null;
  }
}

/** @typedef {{workflow_id: string, name: string, status: string, stages_completed: number, total_stages: number}} RunRow */

/** @param {RunRow[]} runs */
export async function cancelRuns(runs) {
  const [first] = runs;
  const isOne = runs.length === 1;
  const left = runs.reduce((total, run) => total + run.total_stages - run.stages_completed, 0);
  const fields = await ask({
    title: isOne ? `Cancel ${nameOf(first)}?` : `Cancel ${counted(runs.length, "workflow")}?`,
    text: html`<p>
      ${counted(left, "stage")} that ${left === 1 ? "has" : "have"} not ended will not complete. What runs now is asked
      to stop, and is killed after ${counted(settings.cancel_grace_seconds, "second")}. A cancelled workflow can be
      retried.
    </p>`,
    action: isOne ? "Cancel the workflow" : `Cancel ${runs.length} workflows`,
    isDanger: true,
    fields: html`<label class="field"
      >Reason <span class="muted">(optional, shown as its error)</span
      ><input name="reason" maxlength="500" autocomplete="off"
    /></label>`,
  });
  if (!fields) return;
  const reason = String(fields.get("reason") ?? "").trim();
  await Promise.all(runs.map((run) => cancelOne(run, reason)));
}

/** @param {RunRow} run @param {string} reason */
async function cancelOne({ workflow_id }, reason) {
  await run(`workflow:${workflow_id}`, "Cancelling…", `workflows/${workflow_id}/cancel`, reason ? { reason } : {});
}

/** @param {RunRow[]} runs */
export async function retryRuns(runs) {
  const [first] = runs;
  const isOne = runs.length === 1;
  const kept = runs.reduce((total, each) => total + each.stages_completed, 0);
  const left = runs.reduce((total, each) => total + each.total_stages - each.stages_completed, 0);
  const fields = await ask({
    title: isOne ? `Retry ${nameOf(first)}?` : `Retry ${counted(runs.length, "workflow")}?`,
    text: html`<p>
      ${counted(left, "stage")} ${left === 1 ? "runs" : "run"} again.
      ${kept ? `The results of ${counted(kept, "completed stage")} are kept.` : "Nothing had completed."}
    </p>`,
    action: isOne ? "Retry the workflow" : `Retry ${runs.length} workflows`,
  });
  if (fields)
    await Promise.all(
      runs.map((each) => run(`workflow:${each.workflow_id}`, "Retrying…", `workflows/${each.workflow_id}/retry`)),
    );
}

/**
 * @param {RunRow} from
 * @param {import("mahavishnu-client").Stage} stage
 * @param {number} following How many stages come after it.
 */
export async function retryFrom(from, { stage_name: stageName, items }, following) {
  const failed = items ? items.total - items.completed : 0;
  const fields = await ask({
    title: `Retry from ${shown(stageName)}?`,
    text: html`<p>
      ${shown(stageName)}${following ? ` and ${counted(following, "stage")} after it run` : " runs"} again. Their
      results are replaced; those before are kept.
    </p>`,
    action: "Retry from this stage",
    fields: failed ? failedItemsField(failed, items?.total ?? 0) : undefined,
  });
  if (!fields) return;
  const which = fields.has(FAILED_ITEMS_ONLY) ? { [FAILED_ITEMS_ONLY]: true } : {};
  await run(`workflow:${from.workflow_id}`, "Retrying…", `workflows/${from.workflow_id}/retry`, {
    from_stage: stageName,
    ...which,
  });
}

const FAILED_ITEMS_ONLY = "failed_items_only";

/** @param {number} failed @param {number} total */
function failedItemsField(failed, total) {
  return html`<label class="field"
    ><input type="checkbox" name=${FAILED_ITEMS_ONLY} /> Only the ${number(failed)} of ${counted(total, "item")} that
    did not complete</label
  >`;
}

/** @param {{pool_id: string, metrics: {tasks_running: number, queue_size: number}}} pool */
export async function drainPool({ pool_id, metrics }) {
  const fields = await ask({
    title: `Drain ${shown(pool_id)}?`,
    text: html`<p>
      It accepts no new workflows. ${counted(metrics.tasks_running, "running stage")} and
      ${counted(metrics.queue_size, "queued one")} are finished. It can be reopened at any time.
    </p>`,
    action: "Drain the pool",
  });
  if (!fields) return;
  const answer = await run(`pool:${pool_id}`, "Draining…", `pools/${pool_id}/drain`);
  if (answer) toast(`${shown(pool_id)} is draining`, { undo: () => void reopenPool({ pool_id }) });
}

/** @param {{pool_id: string}} pool */
export async function reopenPool({ pool_id }) {
  const answer = await run(`pool:${pool_id}`, "Reopening…", `pools/${pool_id}/reopen`);
  if (answer) toast(`${shown(pool_id)} is open`);
}

/** @param {{worker_id: string, stage_name: string | null}} worker */
export async function drainWorker({ worker_id, stage_name }) {
  const fields = await ask({
    title: `Drain ${shown(worker_id)}?`,
    text: html`<p>
      No worker of its process starts another stage. ${stage_name ? `${shown(stage_name)} is finished first.` : ""} Then
      the process ends; start a worker again to undo this.
    </p>`,
    action: "Drain the worker",
    isDanger: true,
  });
  if (fields) await run(`worker:${worker_id}`, "Draining…", `workers/${worker_id}/drain`);
}

/**
 * Start a workflow, and show it.
 * @param {{name: string, prompt?: string, params?: object, pool_id?: string, workflow_id?: string}} start
 * @returns {Promise<Problem | null>} Why it was refused.
 */
export async function startWorkflow(start) {
  try {
    const { workflow_id } = await operate("workflows", start);
    goTo(urlOfRun(workflow_id));
    return null;
  } catch (error) {
    if (error instanceof Problem) return error;
    toast("No answer from the server: look at the list of workflows before you start it again");
    return null;
  }
}
