from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orchestration", "0016_streams_of_stages"),
    ]

    operations = [
        migrations.AddField(
            model_name="workflow",
            name="secrets",
            field=models.TextField(
                blank=True,
                db_default="",
                editable=False,
                help_text="Its secret parameters, encrypted. The other columns have a mask in their place.",
            ),
        ),
    ]
