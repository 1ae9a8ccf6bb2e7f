// Written by `make clients` from the structs of the server.

/** Why no worker can take a run now. */
export interface Hold { reason: string; needs: string; since: string }

/** A stream of chunks that a stage has opened. */
export interface OpenedStream { name: string; attempt: number; content_type: string }

export interface StageState {
  position: number; stage_name: string; step: number; status: string; worker_id: string | null; attempt: number;
  last_attempt: number; queued_at: string | null; started_at: string | null; finished_at: string | null;
  duration_ms: number | null; progress: number | null; message: string; error: string; retry_at: string | null;
  streams?: OpenedStream[];
}

export interface RunRow {
  workflow_id: string; name: string; status: string; stages_completed: number; total_stages: number;
  pool_id: string | null; created_at: string; started_at: string | null; finished_at: string | null; held: Hold | null;
  parent_id?: string; root_id?: string; reported_by?: string;
}

export interface Run extends RunRow {
  adapter: string; prompt: string; params: Record<string, unknown>; deadline_at: string | null; result: unknown;
  error: string; stage_counts: Record<string, number>; stages: StageState[]; truncated?: boolean;
}

export interface Worker {
  worker_id: string; status: string; pool_id: string; draining: boolean; release: string; workflow_id: string | null;
  stage_name: string | null; status_changed_at: string; last_heartbeat_at: string; truncated?: boolean;
  reported_by?: string;
}

export interface PoolMetrics {
  active_workers: number; idle_workers: number; queue_size: number; tasks_completed: number; tasks_failed: number;
  tasks_running: number; worker_count: number; error_workers: number;
}

export interface PoolRow { pool_id: string; status: string; metrics: PoolMetrics; reported_by?: string }

export interface Pool extends PoolRow { workers: Worker[]; truncated?: boolean }

export interface Overview { workflows: RunRow[]; pools: PoolRow[]; truncated?: boolean }

export interface ListedRun extends RunRow { adapter: string; prompt: string; error: string }

export interface ListedPool extends PoolRow { created_at: string }

export interface ListedWait {
  wait_id: number; workflow_id: string; workflow_name: string; stage_name: string; name: string; kind: string;
  status: string; title: string; schema: object; recipients: string[]; opened_at: string; expires_at: string | null;
  by: string; answered_at: string | null;
}

export interface ListedEvent { id: string; event: string; data: EventData; timestamp: string; seq: number }

/** The data of every event has these. */
export interface EventData {
  timestamp: string;
  test?: boolean;
  truncated?: boolean;
  reported_by?: string;
}

/** A pending stage. */
export interface NewStage {
  stage_name: string;
  step: number;
  last_attempt: number;
}

/** An event of one pool. */
export interface PoolEvent extends EventData {
  pool_id: string;
}

/** A pool is created. */
export interface PoolCreated extends PoolEvent {
}

/** A pool's metrics change. */
export interface PoolStatusChanged extends PoolEvent {
  status: PoolMetrics;
}

/** A pool accepts no new work. */
export interface PoolDrained extends PoolEvent {
}

/** A drained pool accepts new work again. */
export interface PoolReopened extends PoolEvent {
}

/** A pool is closed permanently. */
export interface PoolClosed extends PoolEvent {
}

/** A pool is removed. */
export interface PoolRemoved extends PoolEvent {
}

/** Stages of a workflow are queued: those in `stages` or, if they are many, all that wait in the step `step`. */
export interface WorkflowStagesQueued extends EventData {
  workflow_id: string;
  stages?: string[] | null;
  step: number | null;
  count: number;
  item_of?: string;
}

/** An event of one stage of a workflow. The counts that it has are those of the workflow. */
export interface StageEvent extends EventData {
  workflow_id: string;
  stage_name: string;
  item_of?: string;
}

/** A stage begins. `worker_id` is null where the worker is unknown. `attempt` counts its starts. */
export interface WorkflowStageStarted extends StageEvent {
  worker_id: string | null;
  attempt: number;
}

/** A stage completes. */
export interface WorkflowStageCompleted extends StageEvent {
  result?: unknown;
  duration_ms: number | null;
  stages_completed: number;
}

/** An attempt at a stage fails and another one follows: at `retry_at`, or at once if that is null. */
export interface WorkflowStageRetrying extends StageEvent {
  attempt: number;
  reason: string;
  error: string;
  retry_at: string | null;
  last_attempt: number;
}

/** An attempt at a stage is given back, and the stage waits for another worker. The attempt has not failed. */
export interface WorkflowStageReleased extends StageEvent {
  attempt: number;
  reason: string;
  retry_at: string | null;
  last_attempt: number;
}

/** A stage fails. */
export interface WorkflowStageFailed extends StageEvent {
  error: string;
  duration_ms: number | null;
  last_attempt: number;
}

/** The status of a stage changes to one that no other event is about. */
export interface WorkflowStageStatusChanged extends StageEvent {
  status: string;
  stages_completed: number;
  reason?: string;
  waits_for_runs?: string[];
  waits_for_count?: number;
}

/** A pending stage is added to a workflow that exists. */
export interface WorkflowStageAdded extends StageEvent {
  position: number;
  step: number;
  last_attempt: number;
  total_stages: number;
  stages_completed: number;
  added_by?: string | null;
  moved_steps?: number;
}

/** A stage is removed from a workflow, which has the counts `total_stages` and `stages_completed` now. */
export interface WorkflowStageRemoved extends StageEvent {
  total_stages: number;
  stages_completed: number;
}

/** A running stage reports progress: `progress` is from 0 to 1, `message` may be empty. */
export interface WorkflowStageProgress extends StageEvent {
  progress: number;
  message: string;
}

/** A running stage logs a message. */
export interface WorkflowStageLog extends StageEvent {
  message: string;
}

/** A step inside a running stage completes. Steps that follow each other quickly share an event. */
export interface WorkflowStepCompleted extends StageEvent {
  step_name: string;
  cached: boolean;
  steps_completed: number;
}

/** A running stage opens a stream of chunks. They are delivered by the channel of the stream, not by events. */
export interface WorkflowStreamOpened extends StageEvent {
  stream_name: string;
  attempt: number;
  content_type: string;
}

/** An event of a stage that waits for its items. */
export interface MapEvent extends StageEvent {
  total: number;
  completed: number;
  failed: number;
  running: number;
}

/** A stage waits for its items, which run once for each value of a list, or run again. */
export interface WorkflowMapStarted extends MapEvent {
}

/** The counts of the items of a waiting stage have changed. */
export interface WorkflowMapProgress extends MapEvent {
}

/** A stage waits, and holds no slot. */
export interface WorkflowWaiting extends StageEvent {
  wait_id: number;
  wait_name: string;
  kind: string;
  title: string;
  schema: unknown;
  recipients: string[];
  expires_at: string | null;
  last_attempt: number;
}

/** A wait is answered. The answer is the result of the stage, if the stage only waits. */
export interface WorkflowWaitAnswered extends StageEvent {
  wait_id: number;
  wait_name: string;
  by: string;
  resumes: boolean;
}

/** The time of a wait is over. */
export interface WorkflowWaitExpired extends StageEvent {
  wait_id: number;
  wait_name: string;
  resumes: boolean;
}

/** An event of one worker. */
export interface WorkerEvent extends EventData {
  worker_id: string;
  pool_id: string;
}

/** A worker's status changes to `idle`, `busy`, `error` or `offline`. */
export interface WorkerStatusChanged extends WorkerEvent {
  status: string;
  release: string;
  draining: boolean;
  workflow_id: string | null;
  stage_name: string | null;
}

/** A worker is registered. `status` is its initial status. */
export interface WorkerAdded extends WorkerStatusChanged {
}

/** A worker runs another stage, and its status is the same: it continued with the next stage at once. */
export interface WorkerStageChanged extends WorkerEvent {
  workflow_id: string | null;
  stage_name: string | null;
}

/** A worker joins the pool `pool_id` after it was offline in the pool `from_pool_id`. */
export interface WorkerMoved extends WorkerEvent {
  from_pool_id: string;
}

/** A worker starts no further stage. It is offline when its stage ends. */
export interface WorkerDraining extends WorkerEvent {
}

/** A worker is removed. */
export interface WorkerRemoved extends WorkerEvent {
}

/** An event of one workflow. `name` is what it runs, such as the name of the definition; it may be empty. */
export interface WorkflowEvent extends EventData {
  workflow_id: string;
  name: string;
}

/** A workflow is stored and waits to start. */
export interface WorkflowCreated extends WorkflowEvent {
  adapter: string;
  prompt: string;
  total_stages: number;
  pool_id: string | null;
  params?: Record<string, unknown>;
  deadline_at: string | null;
  stages?: NewStage[];
  parent_id?: string;
  root_id?: string;
}

/** A workflow's execution begins. */
export interface WorkflowStarted extends WorkflowEvent {
  adapter: string;
  prompt: string;
}

/** A workflow moves from the pool `from_pool_id` to the pool `pool_id`. Either may be null. */
export interface WorkflowMoved extends WorkflowEvent {
  pool_id: string | null;
  from_pool_id: string | null;
}

/** A finished workflow runs again: the named stages are pending. `workflow.started` follows. */
export interface WorkflowRetried extends WorkflowEvent {
  from_stage: string | null;
  stages?: NewStage[];
  adapter: string;
  prompt: string;
  pool_id: string | null;
  total_stages: number;
  stages_completed: number;
  created_at: string;
  started_at: string | null;
  deadline_at: string | null;
  failed_items_only?: boolean;
  parent_id?: string;
  root_id?: string;
}

/** A workflow is removed, with its stages. */
export interface WorkflowRemoved extends WorkflowEvent {
}

/** No worker of its pool can take a run now. It stays queued until `workflow.hold_ended`. */
export interface WorkflowHeld extends WorkflowEvent {
  reason: string;
  pool_id: string;
  needs: string;
}

/** A run is no longer held: a worker may take it now, or it has left the pool `pool_id`, or it is finished. */
export interface WorkflowHoldEnded extends WorkflowEvent {
  pool_id: string;
}

/** A workflow completes successfully. `result` is an object with `total_duration_ms` and often `final_output`. */
export interface WorkflowCompleted extends WorkflowEvent {
  result?: unknown;
}

/** A workflow fails or times out. `status`, an addition to the API reference, is `failed` or `timeout`. */
export interface WorkflowFailed extends WorkflowEvent {
  error: string;
  status: string;
}

/** A workflow is cancelled. `reason` may be empty. */
export interface WorkflowCancelled extends WorkflowEvent {
  reason: string;
}

/** The limits that a client needs to know; `realtime.limits.Limits` describes them. */
export interface ClientLimits {
  max_message_bytes: number;
  max_subscriptions: number;
  max_messages_per_second: number;
  max_message_burst: number;
  max_replay_events: number;
  max_event_data_bytes: number;
}

/** The response to `get_pool_status`. `workers` are the ids of all workers of the pool. */
export interface PoolStatusData {
  pool_id: string;
  status: string;
  workers: string[];
}

/** The response to `get_workflow_status`. */
export interface WorkflowStatusData {
  workflow_id: string;
  status: string;
  stages_completed: number;
  total_stages: number;
}

/** The response to `get_workflow`. `workflow` is what a snapshot of its channel has. */
export interface WorkflowData {
  workflow_id: string;
  seq: number;
  epoch: string;
  workflow: Run;
}

/** The response to `list_stages`. */
export interface StageListData {
  workflow_id: string;
  seq: number;
  epoch: string;
  stages: StageState[];
  next_after: number | null;
  stage_counts?: Record<string, number>;
}

/** The response to `get_stage_result`. */
export interface StageResultData {
  workflow_id: string;
  stage_name: string;
  seq: number;
  epoch: string;
  status: string;
  attempt: number;
  result: unknown;
  size_bytes: number;
  too_large?: boolean;
}

/** The response to `list_workflows`. */
export interface WorkflowListData {
  seq: number;
  epoch: string;
  workflows: ListedRun[];
  next_cursor: string | null;
  counts?: Record<string, number>;
}

/** The response to `list_pools`. Its fields are like those of `list_workflows`. */
export interface PoolListData {
  seq: number;
  epoch: string;
  pools: ListedPool[];
  next_cursor: string | null;
}

/** The response to `list_workers`. Its fields are like those of `list_workflows`. */
export interface WorkerListData {
  seq: number;
  epoch: string;
  workers: Worker[];
  next_cursor: string | null;
}

/** The response to `list_waits`. Its fields are like those of `list_workflows`. */
export interface WaitListData {
  seq: number;
  epoch: string;
  waits: ListedWait[];
  next_cursor: string | null;
}

/** The response to `list_events`. */
export interface EventListData {
  channel: string;
  seq: number;
  epoch: string;
  events: ListedEvent[];
  has_more: boolean;
  next_seq: number | null;
}

/** The response to `get_pool_history`. */
export interface PoolHistoryData {
  pool_id: string;
  step_seconds: number;
  samples: unknown;
  seq: number;
  epoch: string;
}

/** The response to `list_definitions`. */
export interface DefinitionListData {
  definitions: unknown;
  truncated?: boolean;
}

/** The response to `get_server_status`: what `/health` reports, for clients. */
export interface ServerStatusData {
  status: string;
  server_version?: string;
  protocol_version?: number;
  ping_after_ms?: number;
  limits: ClientLimits;
  connections: number;
  database: string;
  redis: string;
  relay: string;
  scheduler: string | null;
  relay_lag_ms: number | null;
  problems: string[];
  seq: number | null;
  epoch: string | null;
}

/** The data of each event, by its name. */
export interface EventTypes {
  "pool.created": PoolCreated;
  "pool.status_changed": PoolStatusChanged;
  "pool.drained": PoolDrained;
  "pool.reopened": PoolReopened;
  "pool.closed": PoolClosed;
  "pool.removed": PoolRemoved;
  "workflow.stages_queued": WorkflowStagesQueued;
  "workflow.stage_started": WorkflowStageStarted;
  "workflow.stage_completed": WorkflowStageCompleted;
  "workflow.stage_retrying": WorkflowStageRetrying;
  "workflow.stage_released": WorkflowStageReleased;
  "workflow.stage_failed": WorkflowStageFailed;
  "workflow.stage_status_changed": WorkflowStageStatusChanged;
  "workflow.stage_added": WorkflowStageAdded;
  "workflow.stage_removed": WorkflowStageRemoved;
  "workflow.stage_progress": WorkflowStageProgress;
  "workflow.stage_log": WorkflowStageLog;
  "workflow.step_completed": WorkflowStepCompleted;
  "workflow.stream_opened": WorkflowStreamOpened;
  "workflow.map_started": WorkflowMapStarted;
  "workflow.map_progress": WorkflowMapProgress;
  "workflow.waiting": WorkflowWaiting;
  "workflow.wait_answered": WorkflowWaitAnswered;
  "workflow.wait_expired": WorkflowWaitExpired;
  "worker.status_changed": WorkerStatusChanged;
  "worker.added": WorkerAdded;
  "worker.stage_changed": WorkerStageChanged;
  "worker.moved": WorkerMoved;
  "worker.draining": WorkerDraining;
  "worker.removed": WorkerRemoved;
  "workflow.created": WorkflowCreated;
  "workflow.started": WorkflowStarted;
  "workflow.moved": WorkflowMoved;
  "workflow.retried": WorkflowRetried;
  "workflow.removed": WorkflowRemoved;
  "workflow.held": WorkflowHeld;
  "workflow.hold_ended": WorkflowHoldEnded;
  "workflow.completed": WorkflowCompleted;
  "workflow.failed": WorkflowFailed;
  "workflow.cancelled": WorkflowCancelled;
}

/** The data of each request and of its response, by its name. */
export interface RequestTypes {
  get_pool_status: { data: { pool_id: string }; response: PoolStatusData };
  get_workflow_status: { data: { workflow_id: string }; response: WorkflowStatusData };
  get_workflow: { data: { workflow_id: string }; response: WorkflowData };
  list_stages: { data: { workflow_id: string; item_of?: string | null; status?: "pending" | "queued" | "running" | "waiting" | "completed" | "failed" | "skipped" | "cancelled" | ("pending" | "queued" | "running" | "waiting" | "completed" | "failed" | "skipped" | "cancelled")[] | null; after?: number | null; limit?: number }; response: StageListData };
  get_stage_result: { data: { workflow_id: string; stage_name: string }; response: StageResultData };
  list_workflows: { data: { status?: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout" | ("pending" | "running" | "completed" | "failed" | "cancelled" | "timeout")[] | null; name?: string | null; pool_id?: string | null; parent_id?: string | null; root_id?: string | null; q?: string | null; from?: string | null; to?: string | null; finished_from?: string | null; cursor?: string | null; limit?: number; counts?: boolean }; response: WorkflowListData };
  list_pools: { data: { status?: "active" | "draining" | "closed" | ("active" | "draining" | "closed")[] | null; cursor?: string | null; limit?: number }; response: PoolListData };
  list_workers: { data: { pool_id?: string | null; status?: "idle" | "busy" | "error" | "offline" | ("idle" | "busy" | "error" | "offline")[] | null; cursor?: string | null; limit?: number }; response: WorkerListData };
  list_waits: { data: { workflow_id?: string | null; status?: "open" | "answered" | "expired" | "closed" | ("open" | "answered" | "expired" | "closed")[]; kind?: "ask" | "signal" | "sleep" | ("ask" | "signal" | "sleep")[] | null; to?: string | string[] | null; cursor?: string | null; limit?: number }; response: WaitListData };
  list_events: { data: { channel: string; before?: number | null; after?: number | null; names?: string[] | null; limit?: number }; response: EventListData };
  get_pool_history: { data: { pool_id: string; minutes?: number; step_seconds?: number | null }; response: PoolHistoryData };
  list_definitions: { data: Record<string, never>; response: DefinitionListData };
  get_server_status: { data: Record<string, never>; response: ServerStatusData };
}
