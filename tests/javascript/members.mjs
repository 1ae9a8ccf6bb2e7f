// Write the exports of the module, and the public members of each class and of what a client returns, as JSON.

const module = await import(process.argv[2]);

// The socket that no test opens.
class Socket {
  close() {}
}

function publicNames(names) {
  return names.filter((name) => typeof name === "string" && name !== "constructor" && !name.startsWith("_")).sort();
}

function membersOf(object) {
  const own = Reflect.ownKeys(object);
  const inherited = Reflect.ownKeys(Object.getPrototypeOf(object));
  return publicNames([...new Set([...own, ...inherited])]);
}

const client = module.connect("ws://127.0.0.1:1", { WebSocket: Socket });
const message = { error_code: "NOT_FOUND", error_message: "" };
const objects = {
  Client: client,
  EventStream: client.events("global"),
  StateStream: client.follow("wf"),
  Store: client.workflow("wf"),
  HistoryLost: new module.HistoryLost("global", "limit", 1, "epoch"),
  RequestFailed: new module.RequestFailed(message),
  NotFound: new module.NotFound(message),
  Forbidden: new module.Forbidden(message),
  AuthenticationError: new module.AuthenticationError(message),
  ConnectionLost: new module.ConnectionLost("", true),
  RequestTimeout: new module.RequestTimeout(""),
  ClientClosed: new module.ClientClosed(),
  ClientError: new module.ClientError(""),
};
const members = Object.fromEntries(Object.entries(objects).map(([name, object]) => [name, membersOf(object)]));
members.ClientOptions = publicNames(Object.keys(client._options));
const numbers = Object.fromEntries(Object.entries(client._options).filter(([, value]) => typeof value === "number"));
console.log(JSON.stringify({ exports: Object.keys(module).sort(), members, numbers }));
await client.close();
