"""The admin: everything can be looked at, nothing can be edited, and what can be done goes through the services."""

from __future__ import annotations

from django.contrib import admin

from orchestration.admin import pools, stages, workers, workflows

__all__ = ["pools", "stages", "workers", "workflows"]

admin.site.site_header = "Mahavishnu"
admin.site.site_title = "Mahavishnu"
admin.site.index_title = "Workflows, pools, workers and what happened"
