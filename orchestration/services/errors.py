"""The base class of the errors that services raise."""

from __future__ import annotations


class ServiceError(Exception):
    """A service rejected the call and wrote nothing.

    `str()` gives a sentence for people; the attributes are for programs.
    """
