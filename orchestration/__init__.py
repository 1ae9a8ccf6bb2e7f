"""The stored state: pools, workers, workflows and stages, and the services that change them. No sockets."""
