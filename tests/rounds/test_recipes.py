"""Recipes from their first stage to the versions and audits that they leave, with the real trainer."""

import pytest

from labelapp.models import Audit, Round, Version
from labelapp.rounds.actions import launch_round
from labelapp.rounds.gate import latest_audit
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project, make_user
from tests.rounds.material import TINY, make_parent, make_snapshot

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = {
    "evaluate.max_prompts": 2, "evaluate.answers": 0, "evaluate.max_new_tokens": 4, "evaluate.bootstrap": 100,
    "audit.max_items": 4, "audit.max_new_tokens": 4, "audit.bootstrap": 100, "reward.optimization.max_steps": 3,
}  # fmt: skip
SAMPLING = {"prompts": 2, "completions": 2, "max_new_tokens": 8}
QUICK = {
    "best-of-n": {
        "best_of_n.sampling": {"prompts": 24, "completions": 2, "max_new_tokens": 96},  # a few end by chance
        "sft.optimization": {**TINY, "max_steps": 2},
    },
    "safe": {"safe.sampling": SAMPLING, "safe.optimization": {"max_steps": 2}},
}  # fmt: skip


@pytest.mark.parametrize("recipe", QUICK)
def test_a_recipe_runs_to_a_measured_policy(client, recipe):
    project = make_project(admin=make_user())
    given = {"project": project, "snapshot": make_snapshot(project, "safety"), "parent": make_parent(project)}
    round = launch_round(**given, recipe=recipe, changes=SHORT | QUICK[recipe])
    supervise_round(round.pk)
    round.refresh_from_db()
    assert (round.error, round.state) == ("", Round.State.DONE)
    policy = round.versions.get(kind=Version.Kind.POLICY)
    assert policy.name.startswith("policy-r1-") and policy.parent == given["parent"]
    assert {audit.stage.stage for audit in policy.audits.all()} == {"evaluate", "audit"}
    assert latest_audit(policy).stage.stage == "evaluate"  # which the gate goes by
    audited = Audit.objects.get(version=policy, stage__stage="audit")
    assert {"bbq_accuracy_ambiguous", "unsafe_compliance"} <= set(audited.metrics.values_list("key", flat=True))
    client.force_login(project.memberships.get().user)
    page = client.get(f"/p/{project.slug}/rounds/{round.number}/").content.decode()
    assert policy.name in page and page.count('class="plot"') > 4
