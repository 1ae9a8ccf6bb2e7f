"""The URLs of a project with pages beside those of this site, as in `docs/own-project.md`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from mahavishnu_site import urls


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page of the project")


urlpatterns = [path("", page), path("confirm", page), *urls.urlpatterns]
