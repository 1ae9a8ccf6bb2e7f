"""Programs that follow another orchestrator and report its state here, without a change to it."""
