"""The pages for people: one HTML shell, whose scripts follow the state over one WebSocket."""
