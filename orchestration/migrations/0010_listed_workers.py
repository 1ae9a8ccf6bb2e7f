from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0009_offline_workers")]

    operations = [
        migrations.AddIndex(
            model_name="worker",
            index=models.Index(fields=["pool", "id"], name="orchestration_worker_listed"),
        ),
        migrations.RemoveIndex(model_name="worker", name="orchestration_worker_pool"),
    ]
