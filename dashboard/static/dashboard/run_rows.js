// A list of runs that stays as it was read, while events change its rows. Nothing moves under the reader's eyes: what
// is new is counted, and shown when the reader asks for it.

/** @typedef {import("mahavishnu-client").RunRow & {error: string, prompt?: string, stage?: string}} Row */

/** @type {Record<string, (row: Row, data: any, at: string) => Partial<Row>>} */
const CHANGES = {
  "workflow.started": (row, data, at) => ({
    status: "running",
    started_at: row.started_at ?? at,
    finished_at: null,
    error: "",
    held: null,
  }),
  "workflow.retried": (row, data) => ({
    status: "pending",
    error: "",
    stage: "",
    finished_at: null,
    started_at: data.started_at,
    pool_id: data.pool_id,
    total_stages: data.total_stages,
    stages_completed: data.stages_completed,
  }),
  "workflow.completed": (row, data, at) => ({ status: "completed", finished_at: at, stage: "", held: null }),
  "workflow.failed": (row, data, at) => ({
    status: data.status,
    error: data.error,
    finished_at: at,
    stage: "",
    held: null,
  }),
  "workflow.cancelled": (row, data, at) => ({
    status: "cancelled",
    error: data.reason,
    finished_at: at,
    stage: "",
    held: null,
  }),
  "workflow.moved": (row, data) => ({ pool_id: data.pool_id }),
  "workflow.held": (row, data, at) => ({ held: { reason: data.reason, needs: data.needs, since: at } }),
  "workflow.hold_ended": () => ({ held: null }),
  "workflow.stage_started": (row, data) => ({ stage: data.stage_name }),
  "workflow.stage_completed": (row, data) => ({
    stages_completed: data.stages_completed,
    stage: row.stage === data.stage_name ? "" : row.stage,
  }),
  "workflow.stage_status_changed": (row, data) => ({ stages_completed: data.stages_completed }),
  "workflow.stage_added": (row, data) => ({ total_stages: data.total_stages, stages_completed: data.stages_completed }),
  "workflow.stage_removed": (row, data) => ({
    total_stages: data.total_stages,
    stages_completed: data.stages_completed,
  }),
};

/**
 * Return the rows after an event: the same array if none has changed.
 * @param {Row[]} rows
 * @param {{name: string, data: any, timestamp: string}} event
 * @returns {Row[]}
 */
export function foldRows(rows, event) {
  const change = CHANGES[event.name];
  if (!change || event.data.test === true) return rows;
  const index = rows.findIndex((row) => row.workflow_id === event.data.workflow_id);
  if (index < 0) return rows;
  return rows.with(index, {
    ...rows[index],
    ...change(rows[index], event.data, event.data.timestamp ?? event.timestamp),
  });
}
