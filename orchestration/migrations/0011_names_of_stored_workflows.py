from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

_ROWS_PER_TRANSACTION = 1000

_NAMES = {"postgresql": "LEFT(plan->>'name', 128)", "sqlite": "SUBSTR(JSON_EXTRACT(plan, '$.name'), 1, 128)"}


def copy_names(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Copy the names of the definitions from the plans, in short transactions: the engine may be running."""
    connection = schema_editor.connection
    name = _NAMES[connection.vendor]
    workflows = apps.get_model("orchestration", "Workflow").objects.using(connection.alias).order_by("pk")
    last = ""
    while block := list(workflows.filter(pk__gt=last).values_list("pk", flat=True)[:_ROWS_PER_TRANSACTION]):
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE orchestration_workflow SET name = {name} "
                f"WHERE id > %s AND id <= %s AND name = '' AND {name} IS NOT NULL",
                [last, block[-1]],
            )
        last = block[-1]


class Migration(migrations.Migration):
    # The engine can use the table of workflows meanwhile, at any size of it.
    atomic = False

    dependencies = [("orchestration", "0010_listed_workers")]

    operations = [migrations.RunPython(copy_names, migrations.RunPython.noop)]
