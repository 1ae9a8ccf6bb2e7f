"""The lock files: every requirement and everything it needs is pinned, with hashes, for every system."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.harness.programs import PROJECT_DIR

LOCKS = {
    "requirements.lock": ["requirements.txt"],
    "requirements-dev.lock": ["requirements.txt", "requirements-dev.txt"],
}

HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
COMMENT = re.compile(r"    #( via| {3}|( via)? [-\w. ]+)([-\w. ]*)")

HINT = "run `make lock`"


@dataclass
class Pin:
    """One package in one version. A package may have several, for different versions of Python."""

    version: str
    marker: Marker | None
    hashes: list[str] = field(default_factory=list)

    def applies(self) -> bool:
        return self.marker is None or self.marker.evaluate()


def pins(lock: str) -> dict[str, list[Pin]]:
    """Return the pins of a lock file by the name of their package; fail on any other line."""
    found: dict[str, list[Pin]] = {}
    pin: Pin | None = None
    for line in (PROJECT_DIR / lock).read_text(encoding="utf-8").splitlines():
        if HASH.fullmatch(line) and pin is not None:
            pin.hashes.append(line)
        elif not COMMENT.fullmatch(line):
            requirement = Requirement(line.removesuffix(" \\"))
            (specifier,) = requirement.specifier
            assert (specifier.operator, requirement.url) == ("==", None), line
            pin = Pin(specifier.version, requirement.marker)
            found.setdefault(canonicalize_name(requirement.name), []).append(pin)
    return found


def requirements(*files: str) -> Iterator[Requirement]:
    for file in files:
        for line in (PROJECT_DIR / file).read_text(encoding="utf-8").splitlines():
            text = line.partition(" #")[0].strip()
            if text and not text.startswith(("#", "-r ")):
                yield Requirement(text)


def applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_each_requirement_and_everything_it_needs(lock: str) -> None:
    locked = pins(lock)
    waiting = [requirement for requirement in requirements(*LOCKS[lock]) if applies(requirement, "")]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        name = canonicalize_name(requirement.name)
        versions = [pin.version for pin in locked.get(name, []) if pin.applies()]
        assert len(versions) == 1, f"{lock} has the pins {versions} of {name}: {HINT}"
        assert requirement.specifier.contains(versions[0]), (
            f"{lock} pins {name} {versions[0]}, not {requirement}: {HINT}"
        )
        for extra in ("", *requirement.extras):
            for text in importlib.metadata.requires(name) or ():
                needed = Requirement(text)
                if applies(needed, extra):
                    waiting.append(needed)
    assert len(seen) > len(locked) / 2, "the packages name what they need"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_a_hash_of_each_pin_and_no_address(lock: str) -> None:
    for name, versions in pins(lock).items():
        for pin in versions:
            assert pin.hashes, f"{name} {pin.version}"
    # An address in a comment would match no pattern of `pins`.
    assert "://" not in (PROJECT_DIR / lock).read_text(encoding="utf-8")


def test_server_and_tests_use_the_same_versions() -> None:
    development = pins("requirements-dev.lock")
    for name, versions in pins("requirements.lock").items():
        assert [(pin.version, pin.hashes[0]) for pin in versions] == [
            (pin.version, pin.hashes[0]) for pin in development[name]
        ]
