"""Store a completed run with a failed item."""

from __future__ import annotations

from orchestration import services
from orchestration.models import Stage
from orchestration.plan import Each, Plan, StagePlan
from orchestration.services import Slot

_PLAN = Plan(
    name="mapped",
    adapter="python",
    stages=(StagePlan(name="embed", step=0, each=Each(of="", allow_failed=1)), StagePlan(name="index", step=1)),
)


def store_mapped_run(workflow_id: str, pool_id: str) -> None:
    """Store a run of `embed` with three items, of which `embed[1]` has failed, and of `index` behind it."""
    slot = Slot(worker_id=services.join_pool(name=pool_id, process=pool_id, pool_id=pool_id), process=pool_id)
    services.start_run(_PLAN, prompt="", params={}, pool_id=pool_id, workflow_id=workflow_id)
    embed = Stage.objects.get(workflow_id=workflow_id, name="embed")
    assert services.claim_stage(embed.pk, 1, slot=slot) is not None
    services.start_map(embed.pk, 1, slot=slot, values=["a", "b", "c"])
    for item in Stage.objects.filter(item_of=embed).order_by("item_index"):
        assert services.claim_stage(item.pk, 1, slot=slot) is not None
        if item.item_index == 1:
            services.fail_attempt(item.pk, 1, slot=slot, error="ValueError: No b")
        else:
            services.complete_attempt(item.pk, 1, slot=slot, output=item.item_index)
    index = Stage.objects.get(workflow_id=workflow_id, name="index")
    assert services.claim_stage(index.pk, 1, slot=slot) is not None
    services.complete_attempt(index.pk, 1, slot=slot, output=None)
