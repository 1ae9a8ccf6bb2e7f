"""Signals of a process (`orchestration.processes`). Process trees are tested with the supervisor."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from orchestration.processes import signal_pipe


def test_signal_pipe_restores_the_handlers_and_closes_its_ends_after_an_error() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    open_before = psutil.Process().num_fds()
    with pytest.raises(ZeroDivisionError), signal_pipe([signal.SIGTERM]) as pipe:
        signal.raise_signal(signal.SIGTERM)
        assert os.read(pipe, 512) == bytes([signal.SIGTERM])
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) == handler
    assert psutil.Process().num_fds() == open_before
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert wakeup == -1
