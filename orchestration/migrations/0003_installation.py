from typing import Any

from django.db import migrations, models

import orchestration.models.installation


def create_identifier(apps: Any, schema_editor: Any) -> None:
    apps.get_model("orchestration", "Installation").objects.using(schema_editor.connection.alias).get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [
        ("orchestration", "0002_replaceable_workers"),
    ]

    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "identifier",
                    models.CharField(
                        default=orchestration.models.installation.new_identifier,
                        editable=False,
                        help_text="Part of the names of its queues; never changes.",
                        max_length=12,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="orchestration_installation_single")
                ],
            },
        ),
        migrations.RunPython(create_identifier, migrations.RunPython.noop),
    ]
