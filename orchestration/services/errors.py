"""What every refusal of a service has in common."""

from __future__ import annotations


class ServiceError(Exception):
    """A service refused, and nothing was written.

    `str()` of it is a sentence for people; its attributes are for programs.
    """
