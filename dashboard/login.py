"""The login of the pages, for every user. The admin has its own, for staff."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpResponse


class LoginPage(LoginView):
    """Ask for a name and a password, then show the page of `next`.

    Django refuses a `next` on another host. `mahavishnu_site.logins` refuses logins after many failures.
    """

    template_name = "dashboard/login.html"
    next_page = "overview"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(title="Log in", **kwargs)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Show what is wrong, with the focus on the field to mend: a screen reader reads the error with it."""
        # Which of the two is wrong is not said. The browser keeps no password, so that is written again anyway.
        to_mend = "password" if form.data.get("username") else "username"
        for name, field in form.fields.items():
            attributes = field.widget.attrs
            attributes["aria-describedby"] = "wrong"
            if form.non_field_errors():
                attributes["aria-invalid"] = "true"
            attributes["autofocus"] = name == to_mend
        return super().form_invalid(form)
