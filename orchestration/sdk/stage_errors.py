"""The errors with which a stage or an adapter fails or skips the stage."""

from __future__ import annotations


class StageFailed(Exception):
    """An attempt failed; `str()` is the error that clients receive. Stages may raise it too.

    Args:
        message: The error for clients.
        may_retry: False if another attempt would fail too: the stage fails without using its remaining attempts.
        details: For operators: stored with the attempt in place of a traceback.
    """

    # For subclasses that do not call `__init__` of this class.
    may_retry = True
    details = ""

    def __init__(self, message: str, *, may_retry: bool = True, details: str = "") -> None:
        self.may_retry = may_retry
        self.details = details
        super().__init__(message)


class SecretInPlan(StageFailed):
    """A stage passes a secret to what is stored as it is. Another attempt would do so too."""

    def __init__(self, what: str, expected: str) -> None:
        super().__init__(f"{what} contains a secret of the run, and is stored as it is; {expected}", may_retry=False)


class StageSkipped(Exception):
    """An adapter or a stage raises it: the stage is skipped. It has no output, and its run continues.

    Args:
        reason: Why, for clients.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)
