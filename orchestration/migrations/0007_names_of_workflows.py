from django.db import migrations, models
from django.db.models import deletion


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
