"""The types of the JavaScript client describe the module: every export, and every member of its classes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from generator.model import OWN_REQUESTS
from mahavishnu_client import state
from realtime.protocol.requests import REQUESTS
from tests.harness.browser import NODE
from tests.javascript.node_client import MODULE
from tests.javascript.readme import CLIENT_DIR

TYPES = (CLIENT_DIR / "mahavishnu.d.ts").read_text(encoding="utf-8")
TYPES_ONLY = re.sub(r"^ */\*\*.*?\*/\n", "", TYPES, flags=re.DOTALL | re.MULTILINE)
MEMBERS = Path(__file__).with_name("members.mjs")

OF_ERRORS = {"name", "message", "stack", "cause"}
"""What every error has."""

OF_ITERATORS = {"next", "return", "throw"}
"""What the types inherit from `AsyncIterableIterator`. A client has no `throw`, which is optional."""

# What the module uses itself, and callers need not.
INTERNAL = {
    "EventStream": {"consumer", "end", "isFull", "limits", "onReturn", "push"},
    "StateStream": {"store"},
}

# What no property has, so that no inspection shows it.
HIDDEN = {"ClientOptions": {"token"}}


@pytest.fixture(scope="module")
def module() -> dict[str, Any]:
    """Return the exports of the module, the members of its classes, and the numbers among its options."""
    done = subprocess.run([NODE, MEMBERS, MODULE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def typed_members(name: str) -> set[str]:
    """Return the members of a class or an interface, with those it inherits from others in the file."""
    on_one_line = re.search(rf"^export class {name}\b(.*){{}}$", TYPES_ONLY, flags=re.MULTILINE)
    on_several = rf"^export (?:class|interface) {name}\b(.*?)^}}"
    declaration = on_one_line or re.search(on_several, TYPES_ONLY, flags=re.MULTILINE | re.DOTALL)
    assert declaration, name
    members = set(re.findall(r"^  (?:readonly )?(\w+)\??[(<:]", declaration[1], flags=re.MULTILINE))
    inherited = re.match(r" extends (\w+)", declaration[1])
    if inherited and re.search(rf"^export (?:class|interface) {inherited[1]} ", TYPES_ONLY, flags=re.MULTILINE):
        members |= typed_members(inherited[1])
    return members - {"constructor"}


def test_types_have_every_export_of_the_module(module: dict[str, Any]) -> None:
    assert sorted(re.findall(r"^export (?:class|const|function) (\w+)", TYPES, flags=re.MULTILINE)) == module["exports"]


def test_types_have_the_members_of_the_module(module: dict[str, Any]) -> None:
    for name, members in module["members"].items():
        expected = set(members) - OF_ERRORS - OF_ITERATORS - INTERNAL.get(name, set())
        assert typed_members(name) == expected | HIDDEN.get(name, set()), name


def test_types_have_the_default_numbers_of_the_options(module: dict[str, Any]) -> None:
    documented = re.findall(r": ([\d,]+)( Mi)?\. \*/\n  (\w+): number", TYPES)
    numbers = {name: int(number.replace(",", "")) * (2**20 if mebi else 1) for number, mebi, name in documented}
    assert numbers == module["numbers"]


def test_every_request_is_a_method(module: dict[str, Any]) -> None:
    others = REQUESTS.keys() - set(OWN_REQUESTS)
    assert {re.sub(r"_(\w)", lambda match: match[1].upper(), name) for name in others} <= set(
        module["members"]["Client"]
    )


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("Hold", state.Hold),
        ("Stage", state.StageState),
        ("RunRow", state.RunRow),
        ("Run", state.Run),
        ("Worker", state.Worker),
        ("PoolMetrics", state.PoolMetrics),
        ("PoolRow", state.PoolRow),
        ("Pool", state.Pool),
        ("Overview", state.Overview),
    ],
)
def test_states_have_the_fields_of_the_python_client(name: str, struct: type[msgspec.Struct]) -> None:
    assert typed_members(name) == set(struct.__struct_fields__)
