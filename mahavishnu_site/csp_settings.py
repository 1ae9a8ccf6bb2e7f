"""The Content-Security-Policy of all pages: what they may load, and how scripts may change them."""

from __future__ import annotations

from typing import Any, Final

from csp.utils import build_policy

# In CSP Level 3, `'self'` includes WebSockets of the same host and port. Pages have no inline scripts or styles.
DIRECTIVES: Final[dict[str, Any]] = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "base-uri": ["'none'"],
    # No text becomes HTML, a script or its address, except in the templates of lit-html. It is loaded once.
    "require-trusted-types-for": ["'script'"],
    "trusted-types": ["lit-html"],
}

CONTENT_SECURITY_POLICY: Final = {"DIRECTIVES": DIRECTIVES}


def in_order(policy: str) -> str:
    """Return a policy with its directives in alphabetical order: django-csp's order differs between processes."""
    return "; ".join(sorted(policy.split("; ")))


POLICY: Final = in_order(build_policy(DIRECTIVES))
"""The header of answers that no middleware sees, and of pages without an exception."""
