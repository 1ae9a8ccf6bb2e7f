"""The ASGI application: pages over HTTP, events and requests over WebSocket."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")

# Garbage collections would scan the growing modules again and again: a tenth of the time until the server listens.
gc_was_enabled = gc.isenabled()
gc.disable()

# Models cannot be imported before this call.
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.conf import settings  # noqa: E402

from mahavishnu_site.misdirected import reject_websocket  # noqa: E402
from mahavishnu_site.page_turns import PageTurns  # noqa: E402
from mahavishnu_site.path_prefix import PathPrefix, refuse_other_root_path  # noqa: E402
from mahavishnu_site.project_pages import is_project_page  # noqa: E402
from mahavishnu_site.static_application import StaticFiles  # noqa: E402
from mahavishnu_site.static_files import StaticFilesError, collect_static_files  # noqa: E402
from mahavishnu_site.tls_settings import require_tls_if_unset  # noqa: E402
from realtime.auth.keys import require_usable_keys  # noqa: E402
from realtime.connection.local_only import local_only  # noqa: E402
from realtime.connection.refusals import refuse_tokens_in_urls  # noqa: E402
from realtime.consumers import OrchestrationConsumer  # noqa: E402
from realtime.daphne_server import install  # noqa: E402


def require_tls() -> None:
    """Serve pages over TLS only; the middleware that redirects them is built anew."""
    if require_tls_if_unset():
        django_application.load_middleware(is_async=True)


install.install(on_exposed=require_tls)

refuse_other_root_path(sys.argv[1:], settings.MAHAVISHNU_PATH_PREFIX)
require_usable_keys()

pages: Any = django_application
# `urls.py` has no pages in a process that serves WebSockets only.
if settings.MAHAVISHNU_SERVES != "websocket":
    try:
        collect_static_files(settings.MAHAVISHNU_STATIC_DIR)
    except StaticFilesError as error:
        sys.exit(str(error))
    pages = StaticFiles(pages, root=settings.MAHAVISHNU_STATIC_DIR, prefix=settings.MAHAVISHNU_PATH_PREFIX)
pages = PageTurns(pages, prefix=settings.MAHAVISHNU_PATH_PREFIX)
application: Any = ProtocolTypeRouter(
    {
        "http": refuse_tokens_in_urls(
            pages, api_path=f"{settings.MAHAVISHNU_PATH_PREFIX}/api/", is_exempt=is_project_page
        ),
        "websocket": reject_websocket if settings.MAHAVISHNU_SERVES == "pages" else OrchestrationConsumer.as_asgi(),
    }
)
if settings.MAHAVISHNU_PATH_PREFIX:
    application = PathPrefix(
        application, settings.MAHAVISHNU_PATH_PREFIX, is_stripped=settings.MAHAVISHNU_PROXY_STRIPS_PREFIX
    )
application = local_only(application)

# Imported modules are never freed. Exclude them from garbage collection: when many clients connect at once, scanning
# them would delay the events of all clients. "No garbage" in docs/architecture.md has figures.
gc.freeze()
if gc_was_enabled:
    gc.enable()
