"""Adapters by name, as the setting `MAHAVISHNU_ADAPTERS` has them: name to dotted path of the class."""

from __future__ import annotations

from functools import cache
from typing import cast

from django.conf import settings
from django.utils.module_loading import import_string

from orchestration.sdk.adapter import Adapter


class UnknownAdapter(Exception):
    """No adapter has this name, or its class cannot be imported."""

    def __init__(self, name: str, reason: str = "") -> None:
        self.name = name
        self.reason = reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        if self.reason:
            return f"The adapter {self.name} cannot be imported: {self.reason}"
        known = ", ".join(sorted(settings.MAHAVISHNU_ADAPTERS))
        return f"There is no adapter named {self.name}; known are: {known}. MAHAVISHNU_ADAPTERS adds one."


@cache
def adapter_named(name: str) -> Adapter:
    """Raises: UnknownAdapter."""
    if name not in settings.MAHAVISHNU_ADAPTERS:
        raise UnknownAdapter(name)
    path = settings.MAHAVISHNU_ADAPTERS[name]
    try:
        return cast(Adapter, import_string(path)())
    except ImportError as error:
        raise UnknownAdapter(name, str(error)) from error
