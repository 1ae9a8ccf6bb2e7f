"""`docs/configuration.md` against the settings: every variable is there, no other, and defaults are the real ones."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

from mahavishnu_site.environment import Environment
from realtime.limits import Limits
from tests.docs.pages import PROJECT_DIR, blocks, page, table
from tests.harness.server import clean_environment

CONFIGURATION = page("docs/configuration.md")
ROWS = table(CONFIGURATION, first="Variable")
LIMITS = [row for row in ROWS if "Unit" in row]
PREFIX = "MAHAVISHNU_"

READ_SETTINGS = """
import json
from mahavishnu_site import settings
print(json.dumps({name: repr(value) for name, value in vars(settings).items() if name.isupper()}))
"""


def variables_read_by_the_settings() -> set[str]:
    """The names that `settings.py` asks its `Environment` for, and one for each field of `Limits`."""
    tree = ast.parse((PROJECT_DIR / "mahavishnu_site" / "settings.py").read_text(encoding="utf-8"))
    names = {f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(Limits)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="environment")), args=[ast.Constant(value=str(name)), *_]
            ):
                names.add(name)
    return names


def expected_limit_row(field: dataclasses.Field[int | float]) -> dict[str, str]:
    minimum, maximum = field.metadata["minimum"], field.metadata["maximum"]
    return {
        "Variable": f"{PREFIX}{field.name.upper()}",
        "Default": f"{field.default:.15g}",
        "From, to": f"{minimum:.15g} to {maximum:.15g}",
        "Meaning": field.metadata["help"].replace("`", ""),
    }


def settings_with(tmp_path: Path, **variables: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", READ_SETTINGS],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    settings: dict[str, str] = json.loads(done.stdout)
    return settings


def test_every_variable_is_documented_once_and_no_other() -> None:
    documented = [row["Variable"] for row in ROWS]
    assert sorted(documented) == sorted(variables_read_by_the_settings())


def test_every_limit_has_its_default_its_bounds_its_unit_and_its_meaning() -> None:
    fields = dataclasses.fields(Limits)
    assert [{key: row[key] for key in row if key != "Unit"} for row in LIMITS] == list(map(expected_limit_row, fields))
    for row in LIMITS:
        word = row["Variable"].rsplit("_", 1)[1].lower()
        assert row["Unit"] == word if word in ("bytes", "seconds") else row["Unit"], row


def test_setting_what_is_documented_as_the_default_changes_nothing(tmp_path: Path) -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, flags=re.MULTILINE))
    assert len(defaults) >= len(LIMITS) + 3
    assert settings_with(tmp_path, **defaults) == settings_with(tmp_path)


def test_every_documented_bound_is_allowed() -> None:
    for column in (0, 1):
        bounds = {row["Variable"]: row["From, to"].split(" to ")[column] for row in LIMITS}
        environment = Environment(bounds)
        environment.fields(Limits, prefix=PREFIX)
        environment.refuse()


def test_bad_values_are_refused_in_the_words_shown(tmp_path: Path) -> None:
    (shown,) = blocks(CONFIGURATION, role="refusal")
    bad = dict(re.findall(r"^(\w+)='([^']*)'", shown.text, flags=re.MULTILINE))
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path), **bad},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, shown.text)


def test_nothing_but_the_settings_reads_a_variable() -> None:
    reading = re.compile(r"""(?:environ\.get|getenv|base\.get)\(\s*["'](\w+)|environ\[["'](\w+)""")
    read = {
        (path.name, *filter(None, match))
        for package in ("mahavishnu_site", "orchestration", "realtime")
        for path in PROJECT_DIR.glob(f"{package}/**/*.py")
        for match in reading.findall(path.read_text(encoding="utf-8"))
    }
    assert read == {("procfile.py", "PATH")}
