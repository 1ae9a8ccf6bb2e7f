"""The React hook of the README, with as much of React as it uses."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.harness.browser import NODE
from tests.harness.server import MahavishnuServer
from tests.javascript.readme import CLIENT_DIR, example

# One component, which is rendered again when its store changes.
REACT = """
let memo = {};
let store = {};

export function useMemo(create, [key]) {
  if (memo.key !== key) memo = { key, value: create() };
  return memo.value;
}

export function useSyncExternalStore(subscribe, getSnapshot) {
  if (store.subscribe !== subscribe) {
    store.unsubscribe?.();
    store = { subscribe, unsubscribe: subscribe(() => render()) };
  }
  if (getSnapshot() !== getSnapshot()) throw new Error("getSnapshot returned another object without a change");
  return getSnapshot();
}

export let render = () => {};

export function createRoot(component, props) {
  render = () => console.log(component(props));
  render();
}
"""

PROGRAM = """
import { createRoot } from "react";
import { RunStatus } from "./hook.mjs";

createRoot(RunStatus, { workflowId: process.argv[2] });
"""


def test_printed_react_hook_renders_each_change(
    server: MahavishnuServer, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    for name, text in {
        "hook.mjs": example("hook", {"ws://127.0.0.1:8690": server.ws_url}),
        "program.mjs": PROGRAM,
        "node_modules/react/index.js": REACT,
        "node_modules/react/package.json": '{"type": "module", "exports": "./index.js"}',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "node_modules" / "mahavishnu-client").symlink_to(CLIENT_DIR)
    command = [NODE, "program.mjs", workflow_id]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "Loading\n"
        assert process.stdout.readline() == "There is no such run\n"
        services = server.services
        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["one"])
        assert process.stdout.readline() == "pending: 0 of 1 stages\n"
        services.start_workflow(workflow_id=workflow_id)
        assert process.stdout.readline() == "running: 0 of 1 stages\n"
    finally:
        process.kill()
        process.communicate()
