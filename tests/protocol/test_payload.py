"""JSON that clients send over HTTP."""

from __future__ import annotations

import time

import pytest

from realtime.protocol.payload import decode_strictly


def test_key_that_occurs_twice_is_found_in_linear_time() -> None:
    keys = ",".join(f'"{number:x}":1' for number in range(20_000))
    started = time.process_time()
    with pytest.raises(ValueError, match="'zz' twice"):
        decode_strictly(f'{{{keys},"zz":1,"zz":2}}', max_depth=32)
    assert time.process_time() - started < 1.0, "seconds of the processor; comparing each with each takes several"
