"""The Celery application of workers, and of processes that dispatch stages.

`celery -A mahavishnu_site worker -Q POOL` joins the pool from any machine. See `docs/engine.md`.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.utils.log import get_multiprocessing_logger
from django.conf import settings

from mahavishnu_site.celery_config import celery_settings
from orchestration.limits import EngineLimits
from orchestration.worker import bootstrap
from orchestration.worker.drain import ConsumerDrain, GracePeriod
from orchestration.worker.lost_broker import LostBrokerDetector
from orchestration.worker.redis_transport import BrokerAMQP

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")

app = Celery("mahavishnu", amqp=BrokerAMQP)
# Another project need not define the limits. Their defaults are set when Django's apps are ready, which is later.
limits: EngineLimits = getattr(settings, "MAHAVISHNU_ENGINE", EngineLimits())
app.conf.update(celery_settings(settings.CELERY_BROKER_URL, limits))
# Otherwise Celery's Django fixup closes the database connection after every task. Connecting costs as much as a stage.
app.conf["CELERY_DB_REUSE_MAX"] = 10**9
app.autodiscover_tasks(["orchestration"])
app.steps["consumer"].update({LostBrokerDetector, ConsumerDrain})
app.steps["worker"].add(GracePeriod)
bootstrap.install()

if os.geteuid() != 0:
    # Celery takes a group without a name for that of root, as a container's user often has.
    warnings.filterwarnings("ignore", category=SecurityWarning)


def set_log_level(loglevel: int | None, **_: Any) -> None:
    """Apply the worker's `--loglevel`, and leave the rest to Django's settings.

    Without a receiver of this signal, Celery would write the records of its loggers `celery.task` and
    `multiprocessing` in its own format, which escapes nothing.
    """
    if loglevel:
        logging.getLogger().setLevel(loglevel)
    get_multiprocessing_logger().propagate = True


signals.setup_logging.connect(set_log_level, dispatch_uid="mahavishnu_site.celery.logging")
