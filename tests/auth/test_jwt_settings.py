"""The variables of tokens: what is refused at the start, and which processes have the secrets."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from django.conf import settings

from mahavishnu_site.env import Environment, InvalidEnvironmentError
from mahavishnu_site.jwt_settings import JwtSettings, read_jwt_settings
from realtime.auth.secret_strength import secret_weakness
from tests.auth.token_signing import OTHER_SECRET, PREVIOUS_SECRET, SECRET, public_key
from tests.harness.interpreter import run_python
from tests.site.check_command import run_check

USE_SERVER = """
import mahavishnu_site.asgi
print("listening")
"""

SECRET_SHAPE = "MAHAVISHNU_JWT_SECRET='***': expected a long, random text"


def read(variables: dict[str, str], *, role: str = "web", must_have_key: bool = False) -> JwtSettings:
    environment = Environment(variables)
    settings = read_jwt_settings(environment, role=role, must_have_key=must_have_key)
    environment.raise_errors()
    # No check warns that one has no effect.
    assert environment.unread(prefix="MAHAVISHNU_JWT") == {}
    return settings


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "x" * 64,
        SECRET[:31],
        f"  {SECRET[:30]}  ",
        "0123456789abcde" * 4,
        string.ascii_lowercase * 2,
        "your-256-bit-secret-1234567890-ABCDEFGH",
        "Secret_Key" + SECRET,
        SECRET + "changeme",
        "a-string-secret-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        public_key("pem").decode(),
        f"\n{public_key('pem').decode()}",
        public_key("jwk").decode(),
        f"[{public_key('jwk').decode()}]",
        f"ssh-ed25519 {SECRET} ada@example.org",
        f"ecdsa-sha2-nistp256 {SECRET}",
        f"---- BEGIN SSH2 PUBLIC KEY ---- {SECRET}",
        f"PuTTY-User-Key-File-3: {SECRET}",
    ],
)
def test_secrets_that_can_be_guessed_are_refused(secret: str) -> None:
    assert secret_weakness(secret)


def test_random_secrets_are_accepted() -> None:
    accepted = (SECRET, PREVIOUS_SECRET, f" {OTHER_SECRET}\n", "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2)
    assert [secret_weakness(secret) for secret in accepted] == [None] * len(accepted)


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"MAHAVISHNU_JWT_SECRET": "short"}, f"{SECRET_SHAPE} (5 bytes, of at least 32)"),
        (
            {"MAHAVISHNU_JWT_SECRET": SECRET, "MAHAVISHNU_JWT_SECRET_PREVIOUS": "{}"},
            "MAHAVISHNU_JWT_SECRET_PREVIOUS='***': expected a long, random text "
            "(it is shaped like a PEM, SSH or JSON key)",
        ),
        (
            {"MAHAVISHNU_JWT_SECRET_PREVIOUS": SECRET},
            "MAHAVISHNU_JWT_SECRET_PREVIOUS='***': expected no value while MAHAVISHNU_JWT_SECRET is not set",
        ),
        (
            {"MAHAVISHNU_JWT_SECRET": SECRET, "MAHAVISHNU_JWT_JWKS": "/etc/jwks.json"},
            "MAHAVISHNU_JWT_JWKS='/etc/jwks.json': expected no value while MAHAVISHNU_JWT_SECRET is set",
        ),
        (
            {"MAHAVISHNU_REQUIRE_AUTH": "1"},
            "MAHAVISHNU_REQUIRE_AUTH='1': expected a key that verifies tokens: set MAHAVISHNU_JWT_SECRET or "
            "MAHAVISHNU_JWT_JWKS too",
        ),
        (
            {"MAHAVISHNU_JWT_JWKS": "http://example.org/jwks.json"},
            "MAHAVISHNU_JWT_JWKS='http://example.org/jwks.json': expected a URL such as "
            "https://example.org/.well-known/jwks.json, or the path of a file",
        ),
        (
            {"MAHAVISHNU_JWT_JWKS": "jwks.json"},
            "MAHAVISHNU_JWT_JWKS='jwks.json': expected the absolute path of a file, or a URL that begins with https://",
        ),
        (
            {"MAHAVISHNU_MAX_TOKEN_SECONDS": "0"},
            "MAHAVISHNU_MAX_TOKEN_SECONDS='0': expected a whole number from 1 to 31622400",
        ),
    ],
)
def test_invalid_variables_are_refused_with_one_sentence(variables: dict[str, str], error: str) -> None:
    with pytest.raises(InvalidEnvironmentError) as raised:
        read(variables, must_have_key="MAHAVISHNU_REQUIRE_AUTH" in variables)
    assert str(raised.value) == error


@pytest.mark.parametrize("role", ["web", "command", "worker", "scheduler"])
def test_workers_and_schedulers_do_not_have_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    verifies = role in ("web", "command")
    file = tmp_path / "previous"
    file.write_text(f"{PREVIOUS_SECRET}\n" if verifies else "not even read")
    monkeypatch.setenv("MAHAVISHNU_JWT_SECRET", SECRET)
    variables = {"MAHAVISHNU_JWT_SECRET": SECRET, "MAHAVISHNU_JWT_SECRET_PREVIOUS_FILE": str(file)}
    settings = read(variables, role=role, must_have_key=True)
    assert (settings.secret, settings.secret_previous) == ((SECRET, PREVIOUS_SECRET) if verifies else ("", ""))
    assert ("MAHAVISHNU_JWT_SECRET" in os.environ) is verifies
    assert SECRET not in repr(settings)


def test_stages_do_not_inherit_the_secrets() -> None:
    assert set(settings.MAHAVISHNU_SECRET_VARIABLES) >= {"MAHAVISHNU_JWT_SECRET", "MAHAVISHNU_JWT_SECRET_PREVIOUS"}


def test_settings_read_the_variables(tmp_path: Path) -> None:
    done = run_check(tmp_path, MAHAVISHNU_REQUIRE_AUTH="1", MAHAVISHNU_JWT_AUDIENCE="\x07")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "MAHAVISHNU_REQUIRE_AUTH='1': expected a key that verifies tokens: set MAHAVISHNU_JWT_SECRET or "
        "MAHAVISHNU_JWT_JWKS too",
        "MAHAVISHNU_JWT_AUDIENCE='\\x07': expected at most 512 printable characters",
    ]


def test_server_with_unreadable_keys_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    done = run_python(tmp_path, "-c", USE_SERVER, MAHAVISHNU_REQUIRE_AUTH="1", MAHAVISHNU_JWT_JWKS=str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"MAHAVISHNU_JWT_JWKS: the JWKS file {path} cannot be read: No such file or directory\n"
