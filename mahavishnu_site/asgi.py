"""The application that daphne serves: pages over HTTP, everything else over WebSocket."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")

# Models cannot be imported before this call.
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from realtime import server  # noqa: E402
from realtime.consumers import OrchestrationConsumer  # noqa: E402

server.install()

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(django_application),
        "websocket": OrchestrationConsumer.as_asgi(),
    }
)
