"""Workflows to try out, and to copy from: `manage.py run_workflow source_report --watch` runs the first."""
