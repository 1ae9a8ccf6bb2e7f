"""The secrets of a run: encrypted in a separate column. The parameters of the run hold a mask in their place.

So code that reads, sends or shows parameters has no secrets. Only a worker reads them, for the stages of the run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from orchestration.models import Workflow
from orchestration.secret_mask import MASK
from orchestration.services.errors import ServiceError


class SecretsUnreadable(ServiceError):
    """This process does not have the key with which the secrets of a run were encrypted, or has none at all."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"Secrets cannot be read or stored here: {self.reason}. MAHAVISHNU_SECRETS_KEY is their key."


def sealed(secrets: Mapping[str, Any]) -> str:
    """Return secrets, by the names of their parameters, as they are stored; empty if there are none.

    Raises:
        SecretsUnreadable: if this process has no key.
    """
    return _cipher().encrypt(json.dumps(secrets).encode()).decode("ascii") if secrets else ""


def unsealed(workflow: Workflow) -> dict[str, Any]:
    """Return the secrets of a run, by the names of their parameters.

    Raises:
        SecretsUnreadable: if this process has no key, or another one.
    """
    if not workflow.secrets:
        return {}
    try:
        secrets: dict[str, Any] = json.loads(_cipher().decrypt(workflow.secrets))
    except InvalidToken:
        raise SecretsUnreadable("they were encrypted with another key") from None
    return secrets


def without_secrets(params: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as they are stored and shown."""
    return {name: MASK if name in secrets else value for name, value in params.items()}


def _cipher() -> Fernet:
    key = settings.MAHAVISHNU_SECRETS_KEY
    try:
        text: str = (key() if callable(key) else key) or settings.SECRET_KEY
    except ImproperlyConfigured:
        raise SecretsUnreadable("this process has no key") from None
    except Exception as error:
        # Of a function that reads a file.
        raise SecretsUnreadable(str(error)) from error
    digest = hashlib.blake2b(text.encode(), digest_size=32, person=b"mahavishnu.1").digest()
    return Fernet(base64.urlsafe_b64encode(digest))
