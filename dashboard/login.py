"""The login of the pages, for every user. The admin has its own, for staff."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.views import LoginView
from django.core.handlers.asgi import ASGIRequest

from realtime.connection.client_address import client_address_of


class LoginPage(LoginView):
    """Ask for a name and a password, then show the page of `next`.

    Django refuses a `next` on another host. `mahavishnu_site.logins` refuses logins after many failures.
    """

    template_name = "dashboard/login.html"
    next_page = "overview"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(title="Log in", lacks_accounts=self._lacks_accounts(), **kwargs)

    def _lacks_accounts(self) -> bool:
        """Return whether there is no account yet. Only a client on this machine learns it."""
        request = self.request
        is_local = isinstance(request, ASGIRequest) and client_address_of(request.scope).is_direct_loopback
        return is_local and not get_user_model().objects.exists()
