"""The pages of the site. WebSocket connections are routed in `asgi.py`."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from realtime import views

urlpatterns = [
    path("", views.index, name="index"),
    path("health", views.health, name="health"),
    path("admin/", admin.site.urls),
]
