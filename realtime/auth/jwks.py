"""The public keys of an issuer (JWKS), from a file or a URL, read again and again: issuers replace their keys."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orchestration.log_throttle import OutageLog
from realtime.auth.jwks_download import MAX_JWKS_BYTES, UnavailableJwks, download
from realtime.auth.verification_key import UnusableKey, VerificationKey, key_of_jwk
from realtime.protocol.payload import decode_object

logger = logging.getLogger(__name__)

MAX_KEYS: Final = 64
READ_INTERVAL_SECONDS: Final = 300.0
REFRESH_PAUSE_SECONDS: Final = 30.0
"""The shortest time between two reads that tokens with unknown keys cause."""

MAX_AGE_SECONDS: Final = 24 * 3600.0
"""How long keys remain in use that cannot be read again. Their issuer may have withdrawn them."""


def parse_jwks(content: bytes) -> tuple[VerificationKey, ...]:
    """Return the usable keys of a JWKS. Other keys, such as symmetric ones, are left out.

    Raises:
        UnavailableJwks: if it is malformed, too large, or has no usable key.
    """
    try:
        keys = decode_object(content.decode()).get("keys")
    except ValueError:
        raise UnavailableJwks("not a JSON object") from None
    if not isinstance(keys, list):
        raise UnavailableJwks("a JSON object without a list of `keys`")
    if len(keys) > MAX_KEYS:
        raise UnavailableJwks(f"{len(keys)} keys, of at most {MAX_KEYS}")
    usable: dict[str | None, VerificationKey] = {}
    reasons: list[str] = []
    for jwk in keys:
        try:
            key = key_of_jwk(jwk)
            if key.key_id in usable:
                raise UnusableKey("an earlier one has the same `kid`")
            usable[key.key_id] = key
        except UnusableKey as error:
            reasons.append(f"key {len(usable) + len(reasons) + 1} is {error}")
    if not usable:
        raise UnavailableJwks(f"no usable key ({'; '.join(reasons[:3]) or 'it is empty'})")
    return tuple(usable.values())


class JwksSource:
    """The keys of one JWKS, read at the start, every 5 minutes, and for tokens with unknown keys. Thread-safe.

    Args:
        place: A URL that begins with `https://`, or the path of a file.
        cache_dir: Where the last good answer of a URL is kept for the next start; None: nowhere.
        on_change: Called with the keys whenever they were read, and with none when they are too old.
        refresh_pause_seconds: The shortest time between two calls of `refresh` that read.
    """

    def __init__(
        self,
        place: str,
        *,
        cache_dir: Path | None,
        on_change: Callable[[tuple[VerificationKey, ...]], None],
        refresh_pause_seconds: float = REFRESH_PAUSE_SECONDS,
    ) -> None:
        is_url = "://" in place
        # The query of a URL may contain a password.
        self._name = f"of {urlsplit(place).hostname}" if is_url else f"file {place}"
        self._place = place
        self._cache = _cache_path(cache_dir, place) if is_url and cache_dir is not None else None
        self._read = download if is_url else _read_file
        self._on_change = on_change
        self._refresh_pause_seconds = refresh_pause_seconds
        self._reading = threading.Lock()
        self._next_refresh = 0.0
        self._good_until = 0.0
        self._stopped = threading.Event()
        self._outage = OutageLog(
            logger,
            failed="Cannot read the JWKS %s (%s); its last keys remain in use for %s",
            recovered="The JWKS %s can be read again",
        )

    def start(self) -> None:
        """Read the keys, and read them again every 5 minutes from now on.

        Raises:
            UnavailableJwks: if they cannot be read, and no copy from the last 24 h is there.
        """
        try:
            self._accept(self._read(self._place), age_seconds=0)
        except UnavailableJwks as error:
            if not self._start_from_cache(error):
                raise UnavailableJwks(f"the JWKS {self._name} cannot be read: {error}") from None
        threading.Thread(target=self._read_periodically, name="jwks", daemon=True).start()

    def refresh(self) -> None:
        """Read the keys again because a token names another one, unless that was done within the last 30 s.

        It blocks while another thread reads them, and then uses what that one has read.
        """
        with self._reading:
            if time.monotonic() >= self._next_refresh:
                self._next_refresh = time.monotonic() + self._refresh_pause_seconds
                self._read_again()

    def close(self) -> None:
        """End the periodic reads."""
        self._stopped.set()

    def _read_periodically(self) -> None:
        while not self._stopped.wait(READ_INTERVAL_SECONDS):
            with self._reading:
                self._read_again()

    def _read_again(self) -> None:
        try:
            self._accept(self._read(self._place), age_seconds=0)
        except UnavailableJwks as error:
            self._fail(error)
        else:
            self._outage.record_success(self._name)

    def _accept(self, content: bytes, *, age_seconds: float) -> None:
        keys = parse_jwks(content)
        self._good_until = time.monotonic() + MAX_AGE_SECONDS - age_seconds
        self._on_change(keys)
        if self._cache is not None and age_seconds == 0:
            _write_cache(self._cache, content)

    def _fail(self, error: UnavailableJwks) -> None:
        seconds_left = self._good_until - time.monotonic()
        if seconds_left <= 0:
            logger.error("The JWKS %s was last read 24 h ago: every token is refused (%s)", self._name, error)
            self._on_change(())
            return
        self._outage.record_failure(self._name, error, f"{seconds_left / 3600:.1f} h")

    def _start_from_cache(self, error: UnavailableJwks) -> bool:
        if self._cache is None:
            return False
        try:
            # The file may have a time in the future, after a step of the clock.
            age_seconds = max(1.0, time.time() - self._cache.stat().st_mtime)
            if age_seconds >= MAX_AGE_SECONDS:
                return False
            self._accept(_read_file(str(self._cache)), age_seconds=age_seconds)
        except (OSError, UnavailableJwks):
            return False
        self._fail(error)
        return True


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_JWKS_BYTES + 1)
    except OSError as error:
        raise UnavailableJwks(error.strerror or str(error)) from None
    if len(content) > MAX_JWKS_BYTES:
        raise UnavailableJwks(f"more than {MAX_JWKS_BYTES} bytes")
    return content


def _cache_path(cache_dir: Path, url: str) -> Path:
    """Return the file for a URL. Another issuer has another file."""
    return cache_dir / f"jwks-{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"


def _write_cache(path: Path, content: bytes) -> None:
    """Replace the file at once: another process may read it. A full disk does no harm."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with suppress(OSError):
        try:
            with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
