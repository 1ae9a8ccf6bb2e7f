const ws = new WebSocket('ws://127.0.0.1:8690');

ws.onopen = () => {
    // Subscribe to workflow
    ws.send(JSON.stringify({
        type: 'request',
        event: 'subscribe',
        data: { channel: 'workflow:abc123' },
        id: 'sub_001'
    }));
};

ws.onmessage = (event) => {
    const data = JSON.parse(event.data);

    if (data.event === 'workflow.started') {
        console.log('Workflow started:', data.data.workflow_id);
    } else if (data.event === 'workflow.completed') {
        console.log('Workflow completed!');
    }
};

ws.onerror = (error) => {
    console.error('WebSocket error:', error);
};

ws.onclose = () => {
    console.log('Disconnected');
};
