"""`docs/configuration.md` lists exactly the variables of the settings, with their real defaults and bounds."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path

from mahavishnu_site import settings as settings_module
from tests.docs.markdown import PROJECT_DIR, blocks, page, table
from tests.harness.interpreter import run_python

CONFIGURATION = page("docs/configuration.md")
ROWS = table(CONFIGURATION, first="Variable")
LIMITS = [row for row in ROWS if "Unit" in row]
PREFIX = "MAHAVISHNU_"

Field = dataclasses.Field[int | float]

READ_SETTINGS = """
import json
from mahavishnu_site import settings
print(json.dumps({name: repr(value) for name, value in vars(settings).items() if name.isupper()}))
"""


def setting_variables() -> set[str]:
    """Return the variables that `settings.py` reads: by name, and one for each field of a limits class."""
    names = set(limit_fields())
    for call in environment_calls():
        match call.args:
            case [ast.Constant(value=str(name)), *_]:
                names.add(name)
    return names


def limit_fields() -> dict[str, Field]:
    """Return the fields of the classes that `settings.py` fills from the environment, by variable, in order."""
    classes = [
        getattr(settings_module, call.args[0].id)
        for call in environment_calls()
        if isinstance(call.func, ast.Attribute) and call.func.attr == "fields" and isinstance(call.args[0], ast.Name)
    ]
    return {f"{PREFIX}{field.name.upper()}": field for limits in classes for field in dataclasses.fields(limits)}


def environment_calls() -> list[ast.Call]:
    modules = (PROJECT_DIR / "mahavishnu_site" / name for name in ("settings.py", "jwt_settings.py"))
    return [
        node
        for module in modules
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and node.args
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "environment"
    ]


def expected_limit_row(name: str, field: Field) -> dict[str, str]:
    minimum, maximum = field.metadata["minimum"], field.metadata["maximum"]
    return {
        "Variable": name,
        "Default": f"{field.default:.15g}",
        "From, to": f"{minimum:.15g} to {maximum:.15g}",
        "Meaning": field.metadata["help"].replace("`", ""),
    }


def settings_with(tmp_path: Path, **variables: str) -> dict[str, str]:
    done = run_python(tmp_path, "-c", READ_SETTINGS, **variables)
    done.check_returncode()
    settings: dict[str, str] = json.loads(done.stdout)
    return settings


def test_configuration_lists_every_variable_once() -> None:
    documented = [row["Variable"] for row in ROWS]
    assert sorted(documented) == sorted(setting_variables())


def test_configuration_shows_default_bounds_unit_and_meaning_of_every_limit() -> None:
    expected = [expected_limit_row(name, field) for name, field in limit_fields().items()]
    assert [{key: row[key] for key in row if key != "Unit"} for row in LIMITS] == expected
    for row in LIMITS:
        word = row["Variable"].rsplit("_", 1)[1].lower()
        assert row["Unit"] == word if word in ("bytes", "seconds") else row["Unit"], row


def test_documented_defaults_are_the_settings_defaults(tmp_path: Path) -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, flags=re.MULTILINE))
    assert len(defaults) >= len(LIMITS) + 3
    # Whether the quota was asked for is a setting too, and not one of its default.
    asked = {"MAHAVISHNU_COUNTS_LOOPBACK": "True"}
    assert settings_with(tmp_path, **defaults) == settings_with(tmp_path) | asked


def test_documented_bounds_are_accepted(tmp_path: Path) -> None:
    for column in (0, 1):
        bounds = {row["Variable"]: row["From, to"].split(" to ")[column] for row in LIMITS}
        assert settings_with(tmp_path, **bounds)


def test_invalid_values_print_the_documented_errors(tmp_path: Path) -> None:
    (shown,) = blocks(CONFIGURATION, role="refusal")
    bad = dict(re.findall(r"^(\w+)='([^']*)'", shown.text, flags=re.MULTILINE))
    done = run_python(tmp_path, "manage.py", "check", **bad)
    assert (done.returncode, done.stderr) == (1, shown.text)


def test_only_settings_read_environment_variables() -> None:
    reading = re.compile(r"""(?:environ\.get|getenv|base\.get)\(\s*["'](\w+)|environ\[["'](\w+)""")
    read = {
        (path.name, *filter(None, match))
        for package in ("mahavishnu_site", "orchestration", "realtime")
        for path in PROJECT_DIR.glob(f"{package}/**/*.py")
        for match in reading.findall(path.read_text(encoding="utf-8"))
    }
    assert read == {("procfile.py", "PATH")}
