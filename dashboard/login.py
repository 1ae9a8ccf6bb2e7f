"""The login of the pages, for every user. The admin has its own, for staff."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView


class LoginPage(LoginView):
    """Ask for a name and a password, then show the page of `next`.

    Django refuses a `next` on another host. `mahavishnu_site.logins` refuses logins after many failures.
    """

    template_name = "dashboard/login.html"
    next_page = "overview"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(title="Log in", **kwargs)
