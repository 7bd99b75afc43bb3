"""The demo is whole, gentle where a newcomer looks first, and loaded once."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from alignment.manifest import split_of, verify, write_manifest
from labelapp.demo import load
from labelapp.demo.derive import GENTLE, ROUGH
from labelapp.demo.load import LOGINS, SLUG, TEST_SHARE, load_demo, topics
from labelapp.models import (
    Comparison,
    Completion,
    Deployment,
    DeploymentEvent,
    Judgment,
    Membership,
    Project,
    Prompt,
    Slot,
    Snapshot,
    User,
)


@pytest.fixture(scope="module")
def demo(django_db_setup, django_db_blocker):
    """Loaded once for this file, without a base model; what tests change is rolled back."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "BASE_MODEL", Path("/nonexistent"))
        project = load_demo()
        yield project
        call_command("flush", interactive=False, verbosity=0, reset_sequences=False)  # ids name rows for good


pytestmark = pytest.mark.django_db(transaction=False)


def test_two_thousand_real_pairs_came_with_their_votes(demo):
    judged = Comparison.objects.filter(judgments__isnull=False).distinct()
    assert judged.count() == 2000 and Judgment.objects.count() > 9900
    assert Prompt.objects.filter(fresh=False).count() == 32
    assert Prompt.objects.filter(fresh=False).values("group").distinct().count() == 16
    assert set(Completion.objects.values_list("author", flat=True)) == {"human"}
    assert not Judgment.objects.exclude(strength=None).exists()
    assert Judgment.objects.filter(ranking=[[0, 1]]).exists()


def test_two_hundred_gentle_pairs_wait_for_labelers(demo):
    waiting = Comparison.objects.filter(slots__isnull=False).distinct()
    assert waiting.count() == 200 and Slot.objects.filter(state="open").count() == 400
    assert not waiting.filter(judgments__isnull=False).exists()
    assert set(waiting.values_list("prompt__group", flat=True)) == GENTLE
    assert not any(ROUGH.search(text) for text in waiting.values_list("completions__text", flat=True))


def test_three_hundred_fresh_topics_wait_for_the_policy(demo):
    fresh = Prompt.objects.filter(fresh=True)
    assert fresh.count() == len(set(topics())) == 300
    assert not fresh.filter(completions__isnull=False).exists()
    assert fresh.values("group").distinct().count() == 300


def test_a_first_snapshot_is_split_by_debate(demo):
    snapshot = Snapshot.objects.get()
    manifest = verify(snapshot.path, snapshot.digest)
    groups = manifest["split"]["group_names"]
    assert (len(groups["train"]), len(groups["test"])) == (11, 5)
    assert all(split_of(name, TEST_SHARE) == split for split in groups for name in groups[split])
    assert snapshot.pairs_train > 900 and snapshot.pairs_test > 400
    assert manifest["counts"]["judgments"] == Judgment.objects.count()


def test_loading_again_adds_nothing_and_keeps_changed_passwords(demo):
    person = User.objects.get(username="admin")
    person.set_password("a new password")
    person.save()
    tables = (Prompt, Completion, Comparison, Judgment, Slot, Snapshot, User, Membership)
    before = [table.objects.count() for table in tables]
    load_demo()
    assert before == [table.objects.count() for table in tables]
    assert User.objects.get(username="admin").check_password("a new password")


def test_there_is_a_login_for_every_role(demo):
    assert {role for role, _, _ in LOGINS} == set(Membership.Role.values)
    for role, username, password in LOGINS:
        assert User.objects.get(username=username).check_password(password)
        assert Membership.objects.get(user__username=username).role == role


def test_every_stance_has_a_prompt_of_its_own(demo):
    prompts = Prompt.objects.filter(project__slug=SLUG, fresh=False)
    assert all(prompt.last_turn.startswith("Argue ") for prompt in prompts)
    assert not set(topics()) & {prompt.last_turn for prompt in prompts}


def test_public_passwords_are_refused_in_production(db, settings):
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="passwords are public"):
        call_command("load_demo")


def test_the_command_prints_the_logins(demo, capsys):
    call_command("load_demo")
    printed = capsys.readouterr().out
    assert all(password in printed for _, _, password in LOGINS) and json.dumps(SLUG)[1:-1] in printed
    assert Project.objects.filter(slug=SLUG).count() == 1


def test_the_base_model_is_promoted_once_as_the_first_epoch(demo, db, monkeypatch, tmp_path):
    (tmp_path / "card.json").write_text('{"stage": "sft"}')
    digest = write_manifest(tmp_path, kind="checkpoint")
    monkeypatch.setattr(load, "BASE_MODEL", tmp_path)
    for _ in range(2):
        load_demo()
    alias = Deployment.objects.get(alias="policy")
    assert (alias.version.name, alias.epoch) == (f"policy-base-{digest[:8]}", 1)
    assert alias.version.state == "promoted" and alias.version.card == {"stage": "sft"}
    assert verify(alias.version.path, alias.version.digest)
    event = DeploymentEvent.objects.get(deployment=alias)
    assert (event.action, event.by.username) == ("promote", "admin")
