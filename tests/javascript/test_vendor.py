"""The libraries of the pages are those of the list, unchanged, and import each other by relative paths only."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.browser import NODE
from tests.javascript.vendor import LIST, VENDOR_DIR

LIBRARIES = json.loads(LIST.read_text(encoding="utf-8"))
MODULES = sorted(path for path in VENDOR_DIR.rglob("*.js"))
SPECIFIER = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"']+)["']""")


def test_vendored_files_are_those_of_the_list() -> None:
    listed = {f"{each['name']}/{name}": digest for each in LIBRARIES for name, digest in each["sha256"].items()}
    found = {
        path.relative_to(VENDOR_DIR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR_DIR.rglob("*")
        if path.is_file()
    }
    assert found == listed
    for each in LIBRARIES:
        assert each["sha256"].keys() == each["files"].keys()
        assert re.fullmatch(r"[0-9a-f]{128}", each["tarball_sha512"])


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda each: str(each["name"]))
def test_licence_is_beside_each_library(library: dict[str, str]) -> None:
    first_lines = (VENDOR_DIR / library["name"] / "LICENSE").read_text(encoding="utf-8")[:400]
    assert {"MIT": "MIT License", "BSD-3-Clause": "BSD 3-Clause License"}[library["license"]] in first_lines


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(VENDOR_DIR)))
def test_vendored_module_imports_relative_paths_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "sourceMappingURL" not in text
    for specifier in SPECIFIER.findall(text):
        assert specifier.startswith(("./", "../")), specifier
        assert (path.parent / specifier).is_file(), specifier


def test_vendored_modules_export_what_pages_import() -> None:
    expected = {
        "lit-html/lit-html.js": ["html", "nothing", "render", "svg"],
        "lit-html/directives/repeat.js": ["repeat"],
        "signals-core/signals-core.js": ["batch", "computed", "effect", "signal", "untracked"],
        "uplot/uplot.js": ["default"],
    }
    # lit-html reads `document` when it is loaded.
    script = f"""
        globalThis.document = {{createTreeWalker: () => ({{}}), createComment: () => ({{}})}};
        const found = {{}};
        for (const [name, exported] of Object.entries({json.dumps(expected)})) {{
            const module = await import("{VENDOR_DIR.as_uri()}/" + name);
            found[name] = exported.filter((each) => module[each] !== undefined);
        }}
        console.log(JSON.stringify(found));
    """
    command = [NODE, "--no-warnings", "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
