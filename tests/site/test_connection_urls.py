"""`DATABASE_URL`, `REDIS_URL` and `CELERY_BROKER_URL`: what they mean, and which values are rejected."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper

from mahavishnu_site.celery_config import BROKER_URL_EXPECTED, parse_broker_url
from mahavishnu_site.channel_layers import parse_redis_url
from mahavishnu_site.databases import parse_database_url
from mahavishnu_site.env import UnexpectedValueError

INVALID_DATABASES = [
    "mysql://user:password@host/name",
    "sqlite://",
    "sqlite:///",
    "sqlite://:memory:",
    "postgres://host",
    "postgres://host:port/name",
    "name.sqlite3",
]

REDISES = [
    "redis://localhost",
    "redis://:password@localhost:6379/1",
    "rediss://localhost:6379/0",
    "rediss://localhost:6379/0?ssl_ca_certs=/etc/ssl/redis.pem&client_name=mahavishnu",
    "unix:///run/valkey.sock",
    "unix:///run/valkey.sock?db=1",
]

INVALID_REDISES = [
    "localhost:6379",
    "http://localhost",
    "redis://",
    "unix://",
    "redis://host:port",
    "redis://host/name",
    "redis://host:65536",
    "redis://host?timeout=3",
    "redis://host?socket_timeout=soon",
    "redis://host?ssl_cert_reqs=none",
    "redis://host?decode_responses=1",
    "rediss://host?ssl_cert_reqs=perhaps",
    "unix:///run/valkey.sock?database=1",
]


BROKERS = {
    "redis://localhost:6379/1": "redis://localhost:6379/1",
    "rediss://:password@localhost": "rediss://:password@localhost",
    "unix:///run/valkey.sock": "redis+socket:///run/valkey.sock",
    "redis+socket:///run/valkey.sock": "redis+socket:///run/valkey.sock",
    "amqp://user:password@host:5672//": "amqp://user:password@host:5672//",
    "amqp://one//;amqp://two//": "amqp://one//;amqp://two//",
    "kombu.transport.redis.Transport://localhost": "kombu.transport.redis.Transport://localhost",
}

INVALID_BROKERS = {
    "localhost:6379": "",
    "nothing": "",
    "amq://localhost": " (No such transport: amq.  Did you mean amqp?)",
    "http://localhost": " (No such transport: http)",
    "amqp://one//;rabbit://two//": " (No such transport: rabbit.  Did you mean librabbitmq?)",
    "memory://": " (memory reaches no other process)",
    "kombu.transport.memory.Transport://": " (memory reaches no other process)",
    "filesystem://": " (filesystem reaches no other process)",
    "nowhere.Transport://localhost": " (No module named 'nowhere')",
    "kombu.nowhere://localhost": " (module 'kombu' has no attribute 'nowhere')",
}


@pytest.mark.parametrize("url", INVALID_DATABASES)
def test_parse_database_url_rejects_other_values(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^sqlite:///path/to/file or postgres://"):
        parse_database_url(url, relative_to=tmp_path, test_path=tmp_path / "test.sqlite3")


@pytest.mark.parametrize(("url", "name"), {"sqlite:///a/b.db": "a/b.db", "sqlite:////a/b.db": "/a/b.db"}.items())
def test_parse_database_url_resolves_a_relative_sqlite_path(url: str, name: str, tmp_path: Path) -> None:
    database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path / "test.sqlite3")
    assert database["NAME"] == str(tmp_path / name)
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_parse_database_url_reads_a_postgres_url(tmp_path: Path) -> None:
    url = "postgres://user:p%40ss@host:5433/name?sslmode=require&connect_timeout=2&keepalives_idle=60"
    database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path)
    read = {name: database[name] for name in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT", "NAME", "OPTIONS")}
    assert read == {
        "ENGINE": "django.db.backends.postgresql",
        "USER": "user",
        "PASSWORD": "p@ss",
        "HOST": "host",
        "PORT": 5433,
        "NAME": "name",
        "OPTIONS": {
            "sslmode": "require",
            "connect_timeout": 2,
            "keepalives": 1,
            "keepalives_idle": 60,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    }


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgres://user@host/name", "of the variable"),
        ("postgres://user:of_the_url@host/name", "of_the_url"),
        ("postgres://user@host/name?password=of_the_query", ""),
    ],
)
def test_parse_database_url_adds_a_missing_password(url: str, password: str, tmp_path: Path) -> None:
    database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path, password="of the variable")
    assert database["PASSWORD"] == password


def test_postgres_connection_times_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgres://user@127.0.0.1:{silent.getsockname()[1]}/name?connect_timeout=2"
        database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path)
        wrapper = DatabaseWrapper({**connection.settings_dict, **database})
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            wrapper.connect()


@pytest.mark.parametrize("url", REDISES)
def test_parse_redis_url_accepts_valid_urls(url: str) -> None:
    assert parse_redis_url(url) == url


@pytest.mark.parametrize("url", INVALID_REDISES)
def test_parse_redis_url_rejects_other_values(url: str) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^redis://host:port/number"):
        parse_redis_url(url)


@pytest.mark.parametrize(("value", "url"), BROKERS.items())
def test_parse_broker_url_returns_celerys_notation(value: str, url: str) -> None:
    assert parse_broker_url(value) == url


@pytest.mark.parametrize(("value", "reason"), INVALID_BROKERS.items())
def test_parse_broker_url_rejects_unsupported_brokers(value: str, reason: str) -> None:
    with pytest.raises(UnexpectedValueError) as error:
        parse_broker_url(value)
    assert str(error.value) == f"{BROKER_URL_EXPECTED}{reason}"
