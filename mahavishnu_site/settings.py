"""Every setting of the site. Each has a default; `docs/configuration.md` lists the variables.

Loading the settings fails if variables are invalid, with one error that names all of them.
"""

from __future__ import annotations

import os

from mahavishnu_site.axes_settings import *  # noqa: F403
from mahavishnu_site.celery_config import broker_url, parse_broker_url
from mahavishnu_site.channel_layers import channel_layer, parse_redis_url
from mahavishnu_site.csp_settings import CONTENT_SECURITY_POLICY  # noqa: F401
from mahavishnu_site.databases import parse_database_url, sqlite_database
from mahavishnu_site.dotted_names import parse_function, parse_named_path, parse_package
from mahavishnu_site.env import Environment, parse_path
from mahavishnu_site.jwt_settings import SECRET_VARIABLES, read_jwt_settings
from mahavishnu_site.local_time import local_time_zone
from mahavishnu_site.log_settings import logging_settings
from mahavishnu_site.middleware import MIDDLEWARE  # noqa: F401
from mahavishnu_site.static_settings import static_settings
from mahavishnu_site.tls_settings import refuse_half_a_certificate, tls_settings
from mahavishnu_site.var_dir import (
    KeyFile,
    UnusableSecretKey,
    base_dir,
    close_files,
    ensure_directory,
    secret_key,
    valkey_url,
    weakness,
)
from mahavishnu_site.web_access import (
    hosts_of_listener,
    parse_allowed_host,
    parse_allowed_origin,
    parse_network,
    parse_path_prefix,
)
from orchestration.apps import DEFAULT_ADAPTERS
from orchestration.identifiers import MAX_RELEASE_LENGTH
from orchestration.limits import EngineLimits
from orchestration.log_throttle import INTERVAL_SECONDS
from realtime.exposure import is_exposed
from realtime.limits import LOOPBACK_NETWORKS, Limits, Network
from realtime.web_origin import host_of_origin

BASE_DIR = base_dir()

environment = Environment(os.environ, secrets=("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"))

# Where the server listens. `manage.py serve` passes both to daphne; daphne itself does not read them.

MAHAVISHNU_HOST = environment.host("MAHAVISHNU_HOST", default="127.0.0.1")
MAHAVISHNU_PORT = environment.whole_number("MAHAVISHNU_PORT", default=8690, minimum=1, maximum=65535)

# The path under which a proxy publishes the server, and whether it removes that path from requests.

MAHAVISHNU_PATH_PREFIX = environment.read("MAHAVISHNU_PATH_PREFIX", default="", parse=parse_path_prefix)
MAHAVISHNU_PROXY_STRIPS_PREFIX = environment.flag("MAHAVISHNU_PROXY_STRIPS_PREFIX", default=False)

# How many daphne processes `manage.py serve` starts behind that address. Its option `--processes` overrides this.

MAX_PROCESSES = 64
MAHAVISHNU_PROCESSES = environment.whole_number("MAHAVISHNU_PROCESSES", default=1, minimum=1, maximum=MAX_PROCESSES)

# What a server process serves, and where `manage.py serve` starts a separate process for pages (0 for none).

MAHAVISHNU_SERVES = environment.choice("MAHAVISHNU_SERVES", default="both", choices=("websocket", "pages", "both"))
MAHAVISHNU_PAGES_PORT = environment.whole_number("MAHAVISHNU_PAGES_PORT", default=0, minimum=1, maximum=65535)
if MAHAVISHNU_PAGES_PORT == MAHAVISHNU_PORT:
    environment.add_error(
        "MAHAVISHNU_PAGES_PORT",
        value=str(MAHAVISHNU_PAGES_PORT),
        expected=f"another port than MAHAVISHNU_PORT, which is {MAHAVISHNU_PORT}",
    )

# Where data is stored.

MAHAVISHNU_VAR_DIR = environment.path("MAHAVISHNU_VAR_DIR", default=BASE_DIR / "var", relative_to=BASE_DIR)
# Where server processes collect static files.
MAHAVISHNU_STATIC_DIR = environment.path(
    "MAHAVISHNU_STATIC_DIR", default=MAHAVISHNU_VAR_DIR / "static", relative_to=BASE_DIR
)
# What a process does. Only a server process has the key that signs sessions.
WEB_ROLE = "web"
ROLES = (WEB_ROLE, "worker", "scheduler", "command")
MAHAVISHNU_ROLE = environment.choice("MAHAVISHNU_ROLE", default=WEB_ROLE, choices=ROLES)
# Empty in a process without pages: Django then refuses to sign anything.
SECRET_KEY = ""
try:
    ensure_directory(MAHAVISHNU_VAR_DIR)
    close_files(MAHAVISHNU_VAR_DIR)
    if MAHAVISHNU_ROLE == WEB_ROLE:
        SECRET_KEY = environment.secret("SECRET_KEY", weakness=weakness) or secret_key(MAHAVISHNU_VAR_DIR)
except UnusableSecretKey as error:
    environment.add_error(
        "MAHAVISHNU_VAR_DIR",
        value=str(MAHAVISHNU_VAR_DIR),
        expected="a folder whose file secret_key is readable, long, random ASCII text, or a folder without this file, "
        f"so that a new key is created ({error.reason})",
    )
except OSError as error:
    environment.add_error(
        "MAHAVISHNU_VAR_DIR",
        value=str(MAHAVISHNU_VAR_DIR),
        expected=f"a folder that this user can create and write to ({error.strerror or error})",
    )

DATABASES = {
    "default": environment.read(
        "DATABASE_URL",
        default=sqlite_database(
            MAHAVISHNU_VAR_DIR / "mahavishnu.sqlite3", test_path=MAHAVISHNU_VAR_DIR / "test.sqlite3"
        ),
        parse=lambda url: parse_database_url(
            url,
            relative_to=BASE_DIR,
            test_path=MAHAVISHNU_VAR_DIR / "test.sqlite3",
            password=environment.read("PGPASSWORD", default="", parse=str),
        ),
    )
}

# Without a URL, `manage.py serve` starts the embedded Valkey on a socket in the var folder.
MAHAVISHNU_EMBEDS_VALKEY = not environment.is_set("REDIS_URL")
MAHAVISHNU_REDIS_URLS = environment.listed(
    "REDIS_URL", default=(valkey_url(MAHAVISHNU_VAR_DIR),), parse_one=parse_redis_url
)
CHANNEL_LAYERS = {"default": channel_layer(MAHAVISHNU_REDIS_URLS)}

# Access.

DEBUG = environment.flag("DEBUG", default=False)
ALLOWED_HOSTS = list(
    environment.listed(
        "ALLOWED_HOSTS",
        default=("localhost", "127.0.0.1", "[::1]", *hosts_of_listener(MAHAVISHNU_HOST)),
        parse_one=parse_allowed_host,
    )
)
MAHAVISHNU_ALLOWED_ORIGINS = environment.listed(
    "MAHAVISHNU_ALLOWED_ORIGINS", default=(), parse_one=parse_allowed_origin
)
MAHAVISHNU_TRUSTED_PROXIES: tuple[Network, ...] = environment.listed(
    "MAHAVISHNU_TRUSTED_PROXIES", default=LOOPBACK_NETWORKS, parse_one=parse_network
)

# Whether clients need a token or a login, and whether a server that others can reach may do without.

MAHAVISHNU_REQUIRE_AUTH = environment.flag("MAHAVISHNU_REQUIRE_AUTH", default=False)
MAHAVISHNU_OPEN_TO_EVERYONE = environment.flag("MAHAVISHNU_OPEN_TO_EVERYONE", default=False)
MAHAVISHNU_POLICY = environment.read("MAHAVISHNU_POLICY", default="", parse=parse_function)
_jwt = read_jwt_settings(environment, role=MAHAVISHNU_ROLE, must_have_key=MAHAVISHNU_REQUIRE_AUTH)
MAHAVISHNU_JWT_SECRET, MAHAVISHNU_JWT_SECRET_PREVIOUS = _jwt.secret, _jwt.secret_previous
MAHAVISHNU_JWT_JWKS, MAHAVISHNU_MAX_TOKEN_SECONDS = _jwt.jwks, _jwt.max_token_seconds
MAHAVISHNU_JWT_AUDIENCE, MAHAVISHNU_JWT_ISSUER = _jwt.audience, _jwt.issuer

# Whether another machine may reach this server, by what the variables above name. A server process sets it, too, if
# its sockets or daphne's options expose it.

MAHAVISHNU_EXPOSED = is_exposed([MAHAVISHNU_HOST, *ALLOWED_HOSTS, *map(host_of_origin, MAHAVISHNU_ALLOWED_ORIGINS)])

# Whether pages are served over TLS only. By default, an exposed server does so.

MAHAVISHNU_REQUIRE_TLS = environment.flag("MAHAVISHNU_REQUIRE_TLS", default=MAHAVISHNU_EXPOSED)
MAHAVISHNU_TLS_FOLLOWS_EXPOSURE = not environment.is_set("MAHAVISHNU_REQUIRE_TLS")
globals().update(tls_settings(required=MAHAVISHNU_REQUIRE_TLS, port=MAHAVISHNU_PORT, prefix=MAHAVISHNU_PATH_PREFIX))
# A monitor on this machine asks daphne directly.
SECURE_REDIRECT_EXEMPT = [r"(^|/)health$"]

# The certificate and its key, with which daphne itself serves TLS.

MAHAVISHNU_TLS_CERTIFICATE = environment.read("MAHAVISHNU_TLS_CERTIFICATE", default=None, parse=parse_path)
MAHAVISHNU_TLS_KEY = environment.read("MAHAVISHNU_TLS_KEY", default=None, parse=parse_path)
refuse_half_a_certificate(environment, MAHAVISHNU_TLS_CERTIFICATE, MAHAVISHNU_TLS_KEY)

# Limits.

MAHAVISHNU_LIMITS = environment.fields(Limits, prefix="MAHAVISHNU_")

# Clients on this machine have a quota if one is asked for.

MAHAVISHNU_COUNTS_LOOPBACK = environment.is_set("MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS")

# If off, every frame takes daphne's own send path: the same bytes at a multiple of the cost.

MAHAVISHNU_DIRECT_FRAMES = environment.flag("MAHAVISHNU_DIRECT_FRAMES", default=True)

MAHAVISHNU_ENGINE = environment.fields(EngineLimits, prefix="MAHAVISHNU_")
# A heartbeat interval above the timeout would mark live workers offline.
_heartbeat_timeout_seconds = min(MAHAVISHNU_ENGINE.lease_seconds, MAHAVISHNU_ENGINE.worker_timeout_seconds)
if MAHAVISHNU_ENGINE.heartbeat_seconds > _heartbeat_timeout_seconds / 2:
    environment.add_error(
        "MAHAVISHNU_HEARTBEAT_SECONDS",
        value=f"{MAHAVISHNU_ENGINE.heartbeat_seconds:g}",
        expected="at most half of MAHAVISHNU_WORKER_TIMEOUT_SECONDS and of MAHAVISHNU_LEASE_SECONDS, "
        f"which is {_heartbeat_timeout_seconds / 2:g}",
    )

# Workflows and their workers.

MAHAVISHNU_APPS = environment.listed("MAHAVISHNU_APPS", default=(), parse_one=parse_package)
_adapters = environment.listed("MAHAVISHNU_ADAPTERS", default=(), parse_one=parse_named_path)
MAHAVISHNU_ADAPTERS = {**DEFAULT_ADAPTERS, **dict(_adapters)}
if len(dict(_adapters)) < len(_adapters):
    environment.add_error(
        "MAHAVISHNU_ADAPTERS", value=",".join(map("=".join, _adapters)), expected="each name once, with one class"
    )
MAHAVISHNU_CREATE_POOLS = environment.flag("MAHAVISHNU_CREATE_POOLS", default=True)
MAHAVISHNU_RELEASE = environment.identifier("MAHAVISHNU_RELEASE", default="", max_length=MAX_RELEASE_LENGTH)
MAHAVISHNU_CELERY_APP = "mahavishnu_site.celery.app"
CELERY_BROKER_URL = environment.read(
    "CELERY_BROKER_URL", default=broker_url(MAHAVISHNU_REDIS_URLS[0]), parse=parse_broker_url
)

# Encrypts the secret parameters of runs. Without the variable, its file is created when the first one is stored.
MAHAVISHNU_SECRETS_KEY = environment.secret("MAHAVISHNU_SECRETS_KEY", weakness=weakness) or KeyFile(
    MAHAVISHNU_VAR_DIR, "secrets_key"
)
MAHAVISHNU_LOG_FILE = environment.path(
    "MAHAVISHNU_LOG_FILE", default=MAHAVISHNU_VAR_DIR / "websocket.log", relative_to=BASE_DIR
)
MAHAVISHNU_LOG_REPEAT_SECONDS = environment.number(
    "MAHAVISHNU_LOG_REPEAT_SECONDS", default=INTERVAL_SECONDS, minimum=0, maximum=86400
)

# System checks warn about them: they may be misspelled.
MAHAVISHNU_UNREAD_VARIABLES = environment.unread(prefix="MAHAVISHNU_")

environment.raise_errors()

# What a stage must not inherit from its worker, because it may contain a password.
MAHAVISHNU_SECRET_VARIABLES = (
    *("SECRET_KEY", "MAHAVISHNU_SECRETS_KEY", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "PGPASSWORD"),
    *SECRET_VARIABLES,
)

if MAHAVISHNU_ROLE != WEB_ROLE:
    os.environ.pop("SECRET_KEY", None)

# The settings below do not depend on the environment.

INSTALLED_APPS = [
    *("mahavishnu_site", "dashboard"),
    *("realtime", "orchestration"),
    "demonstrations",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# The first raises if logins are refused, so that no password is hashed.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword")
]

ROOT_URLCONF = "mahavishnu_site.urls"
DEFAULT_EXCEPTION_REPORTER_FILTER = "mahavishnu_site.error_pages.UrlHidingFilter"
ASGI_APPLICATION = "mahavishnu_site.asgi.application"
FORCE_SCRIPT_NAME = MAHAVISHNU_PATH_PREFIX or None
globals().update(static_settings(folder=MAHAVISHNU_STATIC_DIR, prefix=MAHAVISHNU_PATH_PREFIX))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = MAHAVISHNU_PATH_PREFIX or "/"

# HSTS for subdomains (W005) and its preload list (W021) concern other servers of the domain: a proxy can add them.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

TIME_ZONE = local_time_zone(os.environ)  # Django gives it to the process, and so to the log and to stages.
USE_TZ, USE_I18N = True, False

LOGGING = logging_settings(MAHAVISHNU_LOG_FILE, repeat_seconds=MAHAVISHNU_LOG_REPEAT_SECONDS)
