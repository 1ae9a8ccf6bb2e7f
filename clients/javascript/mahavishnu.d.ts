/** The types of `mahavishnu.js`. Times in states and events are ISO 8601 strings in UTC. */

import type { EventTypes, RequestTypes } from "./messages.js";

export type { EventTypes, RequestTypes } from "./messages.js";

/** The version of this module. */
export const VERSION: string;

// --- Events ---------------------------------------------------------------------------------------------------------

/** One event of a channel. `Event<"workflow.completed">` has the data of that event, `Event` that of any. */
export interface Event<Name extends string = string> {
  readonly seq: number;
  readonly name: Name;
  readonly data: Readonly<Name extends keyof EventTypes ? EventTypes[Name] : Record<string, any>>;
  readonly timestamp: string;
  /** The channel that delivered it. */
  readonly room: string;
  /** The same in every channel. */
  readonly id: string;
  /** Whether it is older than the subscription. */
  readonly replayed: boolean;
}

/** A gap: events of the channel that can no longer be delivered. What follows is complete again. */
export class HistoryLost {
  constructor(channel: string, reason: string, seq: number, epoch: string);
  readonly channel: string;
  /** `epoch`, `ahead`, `trimmed` or `limit`. */
  readonly reason: string;
  /** The position after which events follow. */
  readonly seq: number;
  readonly epoch: string;
}

/** The events of one channel. */
export interface EventStream extends AsyncIterableIterator<Event | HistoryLost> {
  /** Why it ended, if it did. */
  readonly error: Error | null;
  /** How many items wait for the caller. */
  readonly length: number;
  /** End the subscription, and the iteration. */
  close(): void;
  [Symbol.asyncIterator](): this;
}

/** A chunk of a stream, a gap in it, or the beginning of another attempt: then what came before is void. */
export type StreamItem =
  | { readonly type: "chunk"; readonly offset: number; readonly data: string | Uint8Array; readonly attempt: number }
  | { readonly type: "gap"; readonly offset: number; readonly end: number; readonly attempt: number }
  | { readonly type: "reset"; readonly attempt: number };

/** A stream of chunks. */
export interface ChunkStream extends AsyncIterableIterator<StreamItem> {
  /** How it ended; null before its end. */
  readonly end: {
    readonly attempt: number;
    readonly status: StageStatus;
    readonly length: number;
    readonly sha256: string | null;
  } | null;
  /** Why it ended, if it did. */
  readonly error: Error | null;
  /** The offset behind the last chunk, and its attempt. */
  readonly offset: number;
  readonly attempt: number | null;
  /** End the subscription, and the iteration. */
  close(): void;
  [Symbol.asyncIterator](): this;
}

/** A position in the event log. */
export interface Position {
  readonly seq: number;
  readonly epoch: string;
}

/** A position to be stored, as JSON. */
export interface StoredPosition extends Position {
  /** The exact positions of channels; the others are at `seq`. */
  readonly channels?: Readonly<Record<string, number>>;
}

// --- State ----------------------------------------------------------------------------------------------------------

export type RunStatus = "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout";
export type StageStatus =
  | "pending"
  | "queued"
  | "running"
  | "waiting"
  | "completed"
  | "failed"
  | "skipped"
  | "cancelled";
export type WorkerStatus = "idle" | "busy" | "error" | "offline";
export type PoolStatus = "active" | "draining" | "closed";

/** Why no worker can take a run now. */
export interface Hold {
  readonly reason: string;
  readonly needs: string;
  readonly since: string;
}

/** How far the items of a stage are. */
export interface ItemCounts {
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
  readonly running: number;
}

/** What a stage waits for, without a slot. */
export interface OpenWait {
  /** The wait: a stage that begins again opens another one. */
  readonly wait_id: number;
  /** The name under which it is answered; that of the signal. */
  readonly name: string;
  readonly kind: "ask" | "signal" | "sleep";
  /** What is asked; may be empty. */
  readonly title: string;
  /** The JSON Schema of the answer; empty for any. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** Who should answer. */
  readonly recipients: readonly string[];
  readonly opened_at: string;
  readonly expires_at: string | null;
}

/** A stage of a run. */
export interface Stage {
  readonly position: number;
  readonly stage_name: string;
  readonly step: number;
  readonly status: StageStatus;
  readonly worker_id: string | null;
  readonly attempt: number;
  readonly last_attempt: number;
  readonly queued_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly duration_ms: number | null;
  /** From 0 to 1. */
  readonly progress: number | null;
  /** What was reported with the progress. */
  readonly message: string;
  readonly error: string;
  readonly retry_at: string | null;
  /** How far its items are; absent if it does not run once for each value of a list. */
  readonly items?: ItemCounts;
  /** What it waits for; absent unless it waits for an answer, a signal or a time. */
  readonly wait?: OpenWait;
  /** The first sub-runs that it waits for; absent unless it waits for some. */
  readonly waits_for_runs?: readonly string[];
  /** How many they are, with those that are not listed. */
  readonly waits_for_count?: number;
  /** The streams of chunks that it has opened, by name; absent if there are none. */
  readonly streams?: readonly { readonly name: string; readonly attempt: number; readonly content_type: string }[];
  /** Why it is skipped; absent if that is not known. */
  readonly skip_reason?: string;
}

/** A run in a list. */
export interface RunRow {
  readonly workflow_id: string;
  readonly name: string;
  readonly status: RunStatus;
  readonly stages_completed: number;
  readonly total_stages: number;
  readonly pool_id: string | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly held: Hold | null;
  /** The run that has started it as a sub-run; absent if none has. */
  readonly parent_id?: string;
  /** The run at the top of the tree of a sub-run; absent for others. */
  readonly root_id?: string;
  /** Who reported it to the server; absent if it is of the server. */
  readonly reported_by?: string;
}

/** A run with its stages: the state of `workflow:{id}`. */
export interface Run extends RunRow {
  readonly adapter: string;
  readonly prompt: string;
  readonly params: Readonly<Record<string, any>>;
  readonly deadline_at: string | null;
  readonly result: any;
  readonly error: string;
  readonly stage_counts: Readonly<Partial<Record<StageStatus, number>>>;
  readonly stages: readonly Stage[];
  /** Whether something is missing. */
  readonly truncated?: true;
}

/** A worker in the state of its pool. */
export interface PoolWorker {
  readonly worker_id: string;
  readonly status: WorkerStatus;
  readonly draining: boolean;
  readonly release: string;
  /** The run of the stage that it runs now. */
  readonly workflow_id: string | null;
  readonly stage_name: string | null;
  readonly status_changed_at: string;
  readonly last_heartbeat_at: string;
  /** Who reported it to the server; absent if it is of the server. */
  readonly reported_by?: string;
}

/** The state of `worker:{id}`. */
export interface Worker extends PoolWorker {
  readonly pool_id: string;
  readonly truncated?: true;
}

export interface PoolMetrics {
  readonly active_workers: number;
  readonly idle_workers: number;
  readonly queue_size: number;
  readonly tasks_completed: number;
  readonly tasks_failed: number;
  readonly tasks_running: number;
  readonly worker_count: number;
  readonly error_workers: number;
}

/** A pool in a list. */
export interface PoolRow {
  readonly pool_id: string;
  readonly status: PoolStatus;
  readonly metrics: PoolMetrics;
  /** Who reported it to the server; absent if it is of the server. */
  readonly reported_by?: string;
}

/** The state of `pool:{id}`. */
export interface Pool extends PoolRow {
  readonly workers: readonly PoolWorker[];
  readonly truncated?: true;
}

/** The unfinished runs and the pools: the state of `global` and `summary`. */
export interface Overview {
  readonly workflows: readonly RunRow[];
  readonly pools: readonly PoolRow[];
  /** Whether there are more. */
  readonly truncated?: true;
}

export type State = Run | Pool | Worker | Overview;

/** A state, and how old it is. */
export type Live<S> = S & {
  /** When the state was last known to be true, by the clock of this machine. */
  readonly asOf: Date;
  /** Whether it is true now: the client is connected, the server answers, and nothing is still to come. */
  readonly isLive: boolean;
};

/** The state of one channel. It is subscribed to while it has a listener or an iteration. */
export interface Store<S> extends AsyncIterable<Live<S>> {
  readonly channel: string;
  /** The state: undefined until it is known, null if the resource does not exist. */
  readonly getSnapshot: () => Live<S> | null | undefined;
  /** Call `listener` after each change, until the returned function is called. */
  readonly subscribe: (listener: () => void, onError?: (error: Error) => void) => () => void;
  /** Call `callback` with the state now, if it is known, and after each change. */
  on(callback: (state: Live<S> | null) => void, onError?: (error: Error) => void): () => void;
  /** Iterate over the states, the latest one after each change. It ends when the resource is removed. */
  [Symbol.asyncIterator](): StateStream<S>;
}

/** An iteration over states. A slow caller skips states. */
export interface StateStream<S> extends AsyncIterableIterator<Live<S>> {
  close(): void;
  [Symbol.asyncIterator](): this;
}

/** Return the state that the snapshot of a channel describes; null if the resource does not exist. */
export function decodeState(channel: string, snapshot: unknown): State | null;

/** Return the state after an event of its channel: `state` itself if the event changes nothing. */
export function fold<S extends State>(
  channel: string,
  state: S | null,
  event: { readonly name: string; readonly data: Readonly<Record<string, any>> },
): S | null;

// --- Errors ---------------------------------------------------------------------------------------------------------

/** The base class of the client's errors. */
export class ClientError extends Error {
  constructor(message: string);
}

/** The server answered a request with an error. */
export class RequestFailed extends ClientError {
  constructor(message: object);
  /** Such as `INVALID_CHANNEL`. */
  readonly code: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** After which time it may; null if the server did not say. */
  readonly retryAfterMs: number | null;
}

/** No workflow, pool or worker has the id of the request. */
export class NotFound extends RequestFailed {}

/** The client has no permission for the request or the channel, or has it no longer. */
export class Forbidden extends RequestFailed {}

/** The server requires a token, or does not accept the one of this client. The client has ended. */
export class AuthenticationError extends ClientError {
  constructor(message: object);
  /** `AUTH_REQUIRED` or `AUTH_FAILED`. */
  readonly code: string;
}

/** The connection ended before a request was answered, or there was none in time. */
export class ConnectionLost extends ClientError {
  constructor(message: string, maybeDone: boolean);
  /** Whether the request was sent, so that the server may have executed it. */
  readonly maybeDone: boolean;
}

/** The server was connected and did not answer in time. It may have executed the request. */
export class RequestTimeout extends ClientError {
  readonly maybeDone: true;
}

/** The server sent what is not a message of this protocol. The client reports it to `onError`, and reconnects. */
export class ProtocolError extends ClientError {}

/** The client was closed. */
export class ClientClosed extends ClientError {
  constructor();
}

// --- The client -----------------------------------------------------------------------------------------------------

export type ConnectionState = "connecting" | "live" | "stale" | "offline" | "draining" | "closed";

/** A token, or a function that returns one. */
export type Token = string | (() => string | Promise<string>);

export interface ClientOptions {
  /**
   * The token that identifies this client. A function is called before each attempt to connect, and when the token will
   * expire.
   */
  token: Token | null;
  /** Where the first subscription of each channel by `events` starts: a stored `client.position`. */
  resumeFrom: StoredPosition | null;
  /** Called with the errors of handlers and listeners. The default reports them to the console. */
  onError: (error: any) => void;
  /** The class of the sockets. The default is that of the runtime. */
  WebSocket: any;
  /** The clock of the machine in milliseconds. */
  wallClock: () => number;
  /** Silence after which the client pings; null: what the server recommends, else 10 seconds. */
  pingAfterMs: number | null;
  /** How long the answer may take. Then the connection is stale, and the client reconnects: 5,000. */
  pongWithinMs: number;
  /** The same after `probe` and after a jump of the clock: 2,000. */
  probeWithinMs: number;
  /** A jump of the clock by more than this probes the connection: 30,000. */
  clockJumpMs: number;
  /** Longest pause before the second attempt to reconnect; the first follows at once: 500. */
  firstRetryMs: number;
  /** Longest pause between attempts. Each pause is random, up to twice the one before: 10,000. */
  maxRetryMs: number;
  /** How long one attempt to connect may take: 5,000. */
  openTimeoutMs: number;
  /** A connection that lived shorter counts as another failed attempt: 1,000. */
  stableAfterMs: number;
  /** How long a request may take, with the time to connect: 30,000. */
  requestTimeoutMs: number;
  /** Shortest time between two snapshots of a state that stays truncated: 5,000. */
  rereadAfterMs: number;
  /** Events that may wait for the caller of one iterator: 10,000. */
  maxQueuedEvents: number;
  /** The same in characters of messages: 16 Mi. */
  maxQueuedBytes: number;
  /** Requests without an answer: 1,000. */
  maxPendingRequests: number;
}

export interface ResumeOptions {
  /** A stored `client.position`. Without it, that of `connect`. */
  resumeFrom?: StoredPosition | null;
}

export interface RequestOptions {
  timeoutMs?: number;
}

/** The data of the answer to a request. */
export type Answer<Name extends string> = Name extends keyof RequestTypes ? RequestTypes[Name]["response"] : any;

/** The fields of a request besides those that are arguments. */
export type Fields<Name extends string, Arguments extends string = never> = Name extends keyof RequestTypes
  ? Omit<RequestTypes[Name]["data"], Arguments>
  : Record<string, unknown>;

/** Connect to a server. The client connects in the background, and again whenever the connection ends. */
export function connect(url: string, options?: Partial<ClientOptions>): Client;

/** A connection to a server that renews itself. */
export class Client implements AsyncDisposable {
  constructor(url: string, options?: Partial<ClientOptions>);
  readonly url: string;
  /** The data of the last `session.created`: versions and limits of the server. */
  readonly server: Readonly<Record<string, any>> | null;
  readonly state: ConnectionState;
  /** When the next attempt to connect is made. */
  readonly retryAt: Date | null;
  /** The time from the last ping to its answer. */
  readonly latencyMs: number | null;
  /** When the last message came, by the clock of this machine. */
  readonly asOf: Date;
  /** How much the server's clock is ahead of this machine's; 0 before the first connection. */
  readonly clockOffsetMs: number;
  /** How many of the missed events were received, while channels catch up. */
  readonly progress: { readonly received: number; readonly missed: number };
  /** Why the server last refused or ended a connection. */
  readonly lastError: Error | null;
  /** The position up to which the events of `events` and `on` are handled; null before the first connection. */
  readonly position: StoredPosition | null;
  onState(listener: (state: ConnectionState) => void): () => void;
  /** Wait until the client is connected and every channel has caught up. */
  waitLive(): Promise<void>;
  /** Find out now whether the server answers, or connect at once. */
  probe(): void;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;

  /** Iterate over the events of a channel, each once and in order. */
  events(channel: string, options?: ResumeOptions): EventStream;
  /** Iterate over a stream of chunks that a stage writes, or has written; offsets count bytes. */
  stream(
    workflowId: string,
    stageName: string,
    name: string,
    options?: { offset?: number; attempt?: number | null },
  ): ChunkStream;
  /** Call `handler` with each item of a channel, one after the other, until the returned function is called. */
  on(channel: string, handler: (item: Event | HistoryLost) => unknown, options?: ResumeOptions): () => void;
  /** Subscribe to a channel, and return its iterator once the server has confirmed. */
  subscribeToChannel(channel: string, handler?: (item: Event | HistoryLost) => unknown): Promise<EventStream>;
  /** End the handler of `subscribeToChannel`. */
  unsubscribeFromChannel(channel: string): Promise<void>;

  /** Send any request, and return the data of its answer. */
  request<Name extends string>(
    name: Name,
    data?: Name extends keyof RequestTypes ? RequestTypes[Name]["data"] : object,
    options?: RequestOptions,
  ): Promise<Answer<Name>>;
  getWorkflowStatus(workflowId: string): Promise<Answer<"get_workflow_status">>;
  getWorkflow(workflowId: string): Promise<Answer<"get_workflow">>;
  getStageResult(workflowId: string, stageName: string): Promise<Answer<"get_stage_result">>;
  getPoolStatus(poolId: string): Promise<Answer<"get_pool_status">>;
  getPoolHistory(
    poolId: string,
    options?: Fields<"get_pool_history", "pool_id">,
  ): Promise<Answer<"get_pool_history">>;
  getServerStatus(): Promise<Answer<"get_server_status">>;
  listDefinitions(): Promise<Answer<"list_definitions">>;
  listEvents(channel: string, options?: Fields<"list_events", "channel">): Promise<Answer<"list_events">>;
  listPools(options?: Fields<"list_pools">): Promise<Answer<"list_pools">>;
  listStages(workflowId: string, options?: Fields<"list_stages", "workflow_id">): Promise<Answer<"list_stages">>;
  listWaits(options?: Fields<"list_waits">): Promise<Answer<"list_waits">>;
  listWorkers(options?: Fields<"list_workers">): Promise<Answer<"list_workers">>;
  listWorkflows(options?: Fields<"list_workflows">): Promise<Answer<"list_workflows">>;

  /** Iterate over the states of a run: the latest one after each change. It ends when the run is removed. */
  follow(workflowId: string): StateStream<Run>;
  /** The state of a run. */
  workflow(workflowId: string): Store<Run>;
  /** The state of a pool with its workers. */
  pool(poolId: string): Store<Pool>;
  /** The state of a worker. */
  worker(workerId: string): Store<Worker>;
  /** The unfinished runs and the pools. */
  overview(): Store<Overview>;
  /** The same as `overview`, for changes of the pools only. */
  pools(): Store<Overview>;
}
