"""The registry of workflows: a module that cannot be imported hides no workflow of another one."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from orchestration.checks import WORKFLOWS_TAG
from orchestration.models import Workflow
from orchestration.sdk import UnknownWorkflow, broken_modules, definitions, find_definition
from orchestration.sdk.launch import LaunchError, launch_by_name
from tests.harness.engine_fixtures import WritePackages

DEFINE = """
from orchestration.sdk import stage, workflow

@stage
def only(ctx, inputs):
    return 1

@workflow()
def {name}(prompt):
    return [only]
"""

BROKEN = [
    ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    ("def (:", "SyntaxError: invalid syntax"),
    ("raise SystemExit('Set FOO first')", "SystemExit: Set FOO first"),
    ("raise ValueError", "ValueError"),
    ("raise ValueError('a\\n  b')", "ValueError: a b"),
    ("__import__('json').loads('?')", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
    ("eval('1 +')", "SyntaxError: invalid syntax"),
    ("raise type('Silent', (Exception,), {'__str__': lambda self: 1 / 0})", "Silent"),
    ("raise ValueError('x' * 1000)", f"ValueError: {'x' * 487}…"),
]


@pytest.mark.parametrize(("line", "error"), BROKEN)
def test_broken_module_is_named_with_its_error_and_location(
    write_packages: WritePackages, line: str, error: str
) -> None:
    folder = write_packages(broken_shop=f"\n\n{line}\n", healthy_shop=DEFINE.format(name="count_stock"))
    (broken,) = broken_modules()
    module = folder / "broken_shop" / "workflows.py"
    assert str(broken) == f"broken_shop.workflows cannot be imported: {error} ({module}, line 3)"
    assert find_definition("count_stock").name == "count_stock"


@pytest.mark.django_db
def test_workflows_beside_a_broken_module_start(write_packages: WritePackages) -> None:
    write_packages(broken_shop="def (:", healthy_shop=DEFINE.format(name="count_stock"))
    run = launch_by_name("count_stock", prompt="", params={})
    assert Workflow.objects.get().pk == run.workflow_id
    with pytest.raises(
        LaunchError, match=r"^Workflow order_stock not found\..* broken_shop\.workflows cannot be imported: "
    ):
        launch_by_name("order_stock", prompt="", params={})


def test_unknown_workflow_names_the_broken_modules(write_packages: WritePackages) -> None:
    write_packages(broken_shop="def (:")
    with pytest.raises(UnknownWorkflow) as caught:
        find_definition("order_stock")
    assert caught.value.broken == broken_modules()
    assert str(caught.value).endswith(f"MAHAVISHNU_APPS. {broken_modules()[0]}.")


def test_broken_module_defines_none_of_its_workflows(write_packages: WritePackages) -> None:
    write_packages(broken_shop=DEFINE.format(name="order_stock") + "import no_such_package\n")
    assert "order_stock" not in definitions()
    assert [broken.name for broken in broken_modules()] == ["broken_shop.workflows"]
    assert "order_stock" not in definitions()


def test_second_definition_of_a_name_is_the_broken_one(write_packages: WritePackages) -> None:
    both = DEFINE.format(name="order_stock")
    folder = write_packages(first_shop=both, second_shop=DEFINE.format(name="refund") + both)
    (broken,) = broken_modules()
    assert str(broken) == (
        "second_shop.workflows cannot be imported: InvalidDefinition: Workflow order_stock is defined twice, in "
        "first_shop.workflows.order_stock and in second_shop.workflows.order_stock: each name must be unique "
        f"({folder / 'second_shop' / 'workflows.py'}, line 18)"
    )
    assert find_definition("order_stock").function.__module__ == "first_shop.workflows"
    assert "refund" not in definitions()


def test_location_is_in_the_module_that_raised(write_packages: WritePackages) -> None:
    folder = write_packages(broken_shop="from broken_shop import prices\n")
    prices = folder / "broken_shop" / "prices.py"
    prices.write_text("import json\n\njson.loads('?')\n")
    assert broken_modules()[0].location == f"{prices}, line 3"


def test_broken_package_is_named_too(write_packages: WritePackages) -> None:
    folder = write_packages(broken_shop="")
    (folder / "broken_shop" / "__init__.py").write_text("raise ValueError('Not today')\n")
    location = f"{folder / 'broken_shop' / '__init__.py'}, line 1"
    assert str(broken_modules()[0]) == f"broken_shop.workflows cannot be imported: ValueError: Not today ({location})"


def test_corrected_module_is_imported_without_a_restart(write_packages: WritePackages) -> None:
    folder = write_packages(broken_shop="import no_such_package\n")
    assert broken_modules()
    # Of another size: the compiled module is dated by size and second.
    (folder / "broken_shop" / "workflows.py").write_text(DEFINE.format(name="order_stock"))
    assert find_definition("order_stock").name == "order_stock"
    assert broken_modules() == ()


def test_system_check_reports_each_broken_module(write_packages: WritePackages) -> None:
    assert run_checks(tags=[WORKFLOWS_TAG]) == []
    write_packages(broken_shop="def (:", healthy_shop=DEFINE.format(name="count_stock"), other_shop="1 / 0")
    errors = run_checks(tags=[WORKFLOWS_TAG])
    assert [(error.id, error.is_serious(), error.msg) for error in errors] == [
        ("orchestration.E001", True, f"{broken}.") for broken in broken_modules()
    ]
    assert len(errors) == 2


def test_run_workflow_lists_workflows_and_broken_modules(write_packages: WritePackages) -> None:
    write_packages(broken_shop="def (:", healthy_shop=DEFINE.format(name="count_stock"))
    output, errors = io.StringIO(), io.StringIO()
    call_command("run_workflow", stdout=output, stderr=errors)
    assert "count_stock" in output.getvalue()
    assert errors.getvalue() == f"{broken_modules()[0]}.\n"


@pytest.mark.django_db
def test_commands_that_need_no_workflow_run_beside_a_broken_module(write_packages: WritePackages) -> None:
    write_packages(broken_shop="def (:")
    output = io.StringIO()
    # `call_command` skips the checks by default, the command line does not.
    call_command("run_workflow", "demo_failure", skip_checks=False, stdout=output)
    assert output.getvalue().strip() == Workflow.objects.get().pk


def test_workflow_without_a_prompt_hides_no_other_from_the_list(write_packages: WritePackages) -> None:
    write_packages(odd_shop="from orchestration.sdk import workflow\n\n@workflow()\ndef order_stock(): ...\n")
    output = io.StringIO()
    call_command("run_workflow", stdout=output)
    assert "order_stock\n" in output.getvalue()
    assert "source_report" in output.getvalue()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def (:", "SyntaxError: "),
        ("raise SystemExit('Set FOO first')", "SystemExit: Set FOO first"),
        ("class Crew:\n    def __init__(self):\n        1 / 0", "ZeroDivisionError: division by zero"),
        ("", 'ImportError: Module "crew_shop.adapters" does not define a "Crew" attribute/class'),
    ],
)
def test_adapter_that_cannot_be_imported_is_a_launch_error(
    write_packages: WritePackages, settings: Any, text: str, error: str
) -> None:
    workflows = DEFINE.format(name="order_stock").replace("workflow()", 'workflow(adapter="crew")')
    folder = write_packages(crew_shop=workflows)
    (folder / "crew_shop" / "adapters.py").write_text(text)
    settings.MAHAVISHNU_ADAPTERS = {**settings.MAHAVISHNU_ADAPTERS, "crew": "crew_shop.adapters.Crew"}
    with pytest.raises(LaunchError) as caught:
        launch_by_name("order_stock", prompt="", params={})
    assert str(caught.value).startswith(f"Adapter crew cannot be imported: {error}")
