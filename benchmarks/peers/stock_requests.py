"""The request `get_workflow_status` with stock Channels and Django's asynchronous ORM."""

from __future__ import annotations

from typing import Any

from django.core.asgi import get_asgi_application

get_asgi_application()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402

from orchestration.models import Workflow  # noqa: E402


class Requests(AsyncJsonWebsocketConsumer):
    """Answers one kind of request."""

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        workflow = await Workflow.objects.only("status", "stages_completed", "total_stages").aget(
            pk=content["data"]["workflow_id"]
        )
        await self.send_json(
            {
                "type": "response",
                "event": content["event"],
                "data": {
                    "workflow_id": workflow.pk,
                    "status": workflow.status,
                    "stages_completed": workflow.stages_completed,
                    "total_stages": workflow.total_stages,
                },
                "correlation_id": content["id"],
            }
        )


application = Requests.as_asgi()
