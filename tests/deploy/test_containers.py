"""`deploy/Dockerfile` and `deploy/compose.yaml`: what they contain. Docker itself is not needed, and not run."""

from __future__ import annotations

import json
import re
import shlex
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from mahavishnu_site.serve.valkey import MAX_MEMORY_BYTES
from mahavishnu_site.settings import MAHAVISHNU_PORT
from realtime.limits import Limits
from tests.deploy.unit_files import Unit, unit
from tests.docs.markdown import page, shell_lines
from tests.harness.programs import PROJECT_DIR

DEPLOY = PROJECT_DIR / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OUR_PARTS = ("web", "pages", "worker", "scheduler", "migrate")


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments, in order."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [
        (name, " ".join(rest.split()))
        for name, _, rest in (line.partition(" ") for line in lines if line[:1] != "#")
        if name
    ]


def test_image_runs_as_a_user_without_privileges() -> None:
    last_stage = instructions()[max(n for n, (name, _) in enumerate(instructions()) if name == "FROM") :]
    assert [arguments for name, arguments in last_stage if name == "USER"] == ["1000:1000"]
    # Nothing runs as root after that.
    assert [name for name, _ in last_stage][-2:] == ["USER", "CMD"]
    assert ("VOLUME", "/var/lib/mahavishnu") in last_stage
    assert any("MAHAVISHNU_VAR_DIR=/var/lib/mahavishnu" in arguments for name, arguments in last_stage if name == "ENV")


def test_image_contains_what_it_copies_and_nothing_else() -> None:
    copied = [
        arguments.split()[0] for name, arguments in instructions() if name == "COPY" and "--from" not in arguments
    ]
    assert [name for name in copied if not (PROJECT_DIR / name).exists()] == []
    ignore = (PROJECT_DIR / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in ignore if not line.startswith("#")] == [
        "*",
        *(f"!{name}" for name in copied),
        "**/__pycache__",
    ]


def test_image_contains_every_package_of_the_wheel() -> None:
    copied = {arguments.split()[0] for name, arguments in instructions() if name == "COPY"}
    pyproject = (PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^include = \[(.*)\]$", pyproject, flags=re.MULTILINE)
    assert packages is not None
    assert {pattern.strip('"*') for pattern in packages[1].split(", ")} <= copied


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_images_have_no_registry_in_their_names(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    images = re.findall(r"^(?:FROM|\s*image:) (\S+)", text, flags=re.MULTILINE)
    assert images
    assert [image for image in images if "." in image.partition("/")[0] and "/" in image] == []


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (
        True,
        ["ALL"],
        ["no-new-privileges:true"],
    )
    assert service["user"] not in ("root", "0", "0:0")
    assert service["tmpfs"]
    assert "privileged" not in service
    # Published to this machine only.
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in service.get("ports", ()))
    if name in OUR_PARTS:
        assert service["user"] == "1000:1000"
        assert service["volumes"] == ["var:/var/lib/mahavishnu"]
        assert [each.partition(":")[0] for each in service["tmpfs"]] == ["/tmp"]


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("web", unit("mahavishnu-web@.service", "8690")),
        ("pages", unit("mahavishnu-pages.service")),
        ("worker", unit("mahavishnu-worker@.service", "local")),
        ("scheduler", unit("mahavishnu-scheduler.service")),
    ],
)
def test_container_runs_the_command_of_the_unit(name: str, same: Unit) -> None:
    command = same.settings()["ExecStart"].removeprefix("/opt/mahavishnu/.venv/bin/")
    # A container has its own loopback address.
    command = command.replace("127.0.0.1", "0.0.0.0")
    assert SERVICES[name]["command"] == command
    assert SERVICES[name]["environment"].get("MAHAVISHNU_SERVES") == same.environment().get("MAHAVISHNU_SERVES")
    assert f"TimeoutStopSec={SERVICES[name]['stop_grace_period'].removesuffix('s')}\n" in same.path.read_text()
    if name == "web":
        assert [json.loads(arguments) for kind, arguments in instructions() if kind == "CMD"] == [shlex.split(command)]


@pytest.mark.parametrize(("name", "same"), [("web", "mahavishnu-web@.service"), ("pages", "mahavishnu-pages.service")])
def test_server_may_have_a_thread_for_each_http_connection(name: str, same: str) -> None:
    tasks = int(unit(same).settings()["TasksMax"])
    assert tasks == SERVICES[name]["pids_limit"]
    assert tasks > Limits().max_http_connections + Limits().database_threads


def test_compose_ports_and_valkey_are_those_of_the_code() -> None:
    assert SERVICES["web"]["ports"] == [f"127.0.0.1:{MAHAVISHNU_PORT}:{MAHAVISHNU_PORT}"]
    pages_port = SERVICES["pages"]["environment"]["MAHAVISHNU_PAGES_PORT"]
    assert SERVICES["pages"]["ports"] == [f"127.0.0.1:{pages_port}:{pages_port}"]
    assert f"--maxmemory {MAX_MEMORY_BYTES // 2**20}mb --maxmemory-policy noeviction" in SERVICES["valkey"]["command"]


def test_compose_trusts_the_proxy_of_its_machine() -> None:
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert ip_address(network["gateway"]) in ip_network(network["subnet"])
    for name in ("web", "pages"):
        # What the machine sends to a published port comes from the gateway.
        assert SERVICES[name]["environment"]["MAHAVISHNU_TRUSTED_PROXIES"] == network["gateway"]
        # Without the public name, the server answers the proxy 400.
        assert SERVICES[name]["environment"]["ALLOWED_HOSTS"] == "${ALLOWED_HOSTS:-}"


def test_git_ignores_the_secrets_of_compose() -> None:
    ignored = (PROJECT_DIR / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/deploy/.env", "/deploy/jwt_secret"} <= set(ignored)


def test_compose_has_no_password() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert text.count("POSTGRES_PASSWORD:?") == 2
    assert COMPOSE["secrets"] == {"jwt_secret": {"file": "./jwt_secret"}}


@pytest.mark.parametrize("name", OUR_PARTS)
def test_only_servers_have_the_key_of_tokens(name: str) -> None:
    environment = SERVICES[name]["environment"]
    has_key = name in ("web", "pages")
    assert environment.get("MAHAVISHNU_REQUIRE_AUTH") == ("1" if has_key else None)
    assert environment.get("MAHAVISHNU_JWT_SECRET_FILE") == ("/run/secrets/jwt_secret" if has_key else None)
    assert SERVICES[name].get("secrets") == (["jwt_secret"] if has_key else None)


def test_documented_docker_commands_name_files_and_services() -> None:
    lines = [line for line in shell_lines(page("docs/operations.md")) if line.startswith("docker ")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert (PROJECT_DIR / words[words.index("--file") + 1]).exists()
        if "run" in words:
            assert words[words.index("--rm") + 1] in SERVICES
