"""Example workflows, to run and to copy from. Start with `manage.py run_workflow source_report --watch`."""
