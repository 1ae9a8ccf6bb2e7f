import asyncio
import json
import websockets

async def monitor_workflow():
    uri = "ws://127.0.0.1:8690"

    async with websockets.connect(uri) as ws:
        # Subscribe to workflow
        subscribe = {
            "type": "request",
            "event": "subscribe",
            "data": {"channel": "workflow:abc123"},
            "id": "sub_001"
        }
        await ws.send(json.dumps(subscribe))

        # Listen for events
        while True:
            message = await ws.recv()
            data = json.loads(message)

            if data["event"] == "workflow.started":
                print(f"Workflow started: {data['data']['workflow_id']}")
            elif data["event"] == "workflow.completed":
                print(f"Workflow completed!")
                break

asyncio.run(monitor_workflow())
