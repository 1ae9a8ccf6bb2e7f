"""The middleware of pages: the first sees a request first, and its response last."""

from __future__ import annotations

MIDDLEWARE = [
    "mahavishnu_site.content_security_policy.ContentSecurityPolicyMiddleware",
    "mahavishnu_site.security_headers.security_headers_middleware",
    "mahavishnu_site.escaped_pages.escape_pages",
    "realtime.api.middleware.api_middleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
