from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import deletion

_NAMES = {
    "postgresql": "UPDATE orchestration_workflow SET name = LEFT(plan->>'name', 128) WHERE plan->>'name' IS NOT NULL",
    "sqlite": (
        "UPDATE orchestration_workflow SET name = SUBSTR(JSON_EXTRACT(plan, '$.name'), 1, 128) "
        "WHERE JSON_EXTRACT(plan, '$.name') IS NOT NULL"
    ),
}


def copy_names(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    schema_editor.execute(_NAMES[schema_editor.connection.vendor])


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0006_requirements_of_stages")]

    operations = [
        migrations.AddField(
            model_name="workflow",
            name="name",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="What runs, such as the name of the definition. May be empty.",
                max_length=128,
            ),
        ),
        migrations.RunPython(copy_names, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="workflow",
            index=models.Index(fields=["name", "-created_at"], name="orchestration_workflow_name"),
        ),
        # A stage keeps the id of its worker when that is removed.
        migrations.AlterField(
            model_name="stage",
            name="worker",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=deletion.DO_NOTHING,
                related_name="stages",
                to="orchestration.worker",
            ),
        ),
    ]
