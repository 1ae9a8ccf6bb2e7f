"""What a scheduler does with runs that are late, or for which nothing is going to happen."""

from __future__ import annotations

import logging

from orchestration import services

logger = logging.getLogger(__name__)


def continue_stalled_run(workflow_id: str) -> bool:
    """Continue a run for which nothing is going to happen. Return False if something is."""
    continued = services.continue_stalled_run(workflow_id)
    if continued:
        logger.warning("Workflow %s was running with nothing to do; it continues", workflow_id)
    return continued


def time_out(workflow_id: str) -> bool:
    """Time out a run. Return False if it has just finished."""
    try:
        services.time_out_workflow(workflow_id=workflow_id)
    except services.ServiceError as error:
        logger.debug("Skipped a timeout: %s", error)
        return False
    return True
