"""The admin: read-only pages of every model; actions change rows through the services."""

from __future__ import annotations

from django.contrib import admin

from orchestration.admin import pools, stages, streams, waits, workers, workflows

__all__ = ["pools", "stages", "streams", "waits", "workers", "workflows"]

admin.site.site_header = "Mahavishnu"
admin.site.site_title = "Mahavishnu"
admin.site.index_title = "Workflows, pools, workers and events"
# Lists need the width. The first page has the same links.
admin.site.enable_nav_sidebar = False
