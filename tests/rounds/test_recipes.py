"""Recipes from their first stage to the versions and audits that they leave, with the real trainer."""

import dataclasses
from collections.abc import Iterator

import pytest

from alignment.config import CONFIGS, build
from labelapp.models import Audit, Round, Version
from labelapp.rounds.actions import launch_round
from labelapp.rounds.gate import latest_audit
from labelapp.rounds.recipes import FILES, OptionRefused, devices_of, plan_stages, read_settings
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project, make_user
from tests.rounds.material import TINY, make_parent, make_snapshot

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = {
    "evaluate.max_prompts": 2, "evaluate.answers": 0, "evaluate.max_new_tokens": 4, "evaluate.bootstrap": 100,
    "audit.max_items": 4, "audit.max_new_tokens": 4, "audit.bootstrap": 100, "reward.optimization.max_steps": 3,
}  # fmt: skip
SAMPLING = {"prompts": 2, "completions": 2, "max_new_tokens": 8}
NEEDED = {  # what some stages cannot be built without
    "tokenizer": {"text": ["a"]}, "pretrain": {"text": ["a"]}, "sft": {"rows": "a", "lora": {}},
    "generate": {"prompts": "a"}, "score": {"prompts": "a", "completions": "b"},
}  # fmt: skip
QUICK = {
    "best-of-n": {
        "best_of_n.sampling": {"prompts": 24, "completions": 2, "max_new_tokens": 96},  # a few end by chance
        "sft.optimization": {**TINY, "max_steps": 2},
    },
    "safe": {"safe.sampling": SAMPLING, "safe.optimization": {"max_steps": 2}},
}  # fmt: skip


WORDS = {  # settings whose value is a word, or a text that is looked for: no file
    "aggregate", "criteria", "criterion", "head", "input", "kind", "loss", "margin", "pattern", "place", "precision",
    "ranking", "schedule", "select", "source",
}  # fmt: skip


def settings_of(config) -> Iterator[str]:
    """The names of a config's fields that take text, of the groups nested in it too."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for each in value if isinstance(value, list) else [value]:
            if dataclasses.is_dataclass(each):
                yield from settings_of(each)
        if "str" in str(field.type):
            yield field.name


@pytest.mark.parametrize("stage", CONFIGS)
def test_every_setting_that_takes_text_is_known_as_a_file_or_a_word(stage):
    assert set(settings_of(build(CONFIGS[stage], NEEDED.get(stage, {})))) <= FILES | WORDS


@pytest.mark.parametrize(
    "line",
    [
        "sft.rows=/etc/hostname",
        "evaluate.prompts=prompts.jsonl",
        'preference.terms={"weights_file": "weights.json"}',
        "preference.reference_cache=shared",
        'reward={"mitigation": {"groups_file": "groups.json"}}',
        'pretrain.text=["book.txt"]',
    ],
)
def test_pages_name_no_file_of_the_server(line):
    with pytest.raises(OptionRefused, match="names a file of the server"):
        read_settings(f"reward.lora.rank=4\n{line}")


@pytest.mark.parametrize(
    "line",
    [
        'grpo.sampling.server={"url": "http://169.254.169.254", "directory": "/tmp/weights"}',
        "grpo.sampling.server.url=http://127.0.0.1:8000",
        "ppo.sampling.server.sleep=true",
        'safe.sampling={"prompts": 4, "server": null}',
        'safe={"sampling": {"server": {"url": "http://localhost"}}}',
    ],
)
def test_pages_name_no_server_that_gets_weights(line):
    with pytest.raises(OptionRefused, match="A server gets the weights: only manage"):
        read_settings(f"reward.lora.rank=4\n{line}")


def test_a_launch_at_the_shell_may_name_a_server():
    given = {"url": "http://127.0.0.1:8000", "directory": "/tmp/weights"}
    planned = plan_stages("grpo", changes={"grpo.sampling.server": given})
    (stage,) = [spec for spec in planned if spec["stage"] == "grpo"]
    assert stage["config"]["sampling"]["server"] == given
    with pytest.raises(OptionRefused, match="an absolute path"):
        plan_stages("grpo", changes={"grpo.sampling.server": given | {"directory": "weights"}})


def test_pages_may_say_how_many_prompts_are_sampled():
    assert read_settings('grpo.sampling={"prompts": 4}\nppo.sampling.prompts=8') == {
        "grpo.sampling": {"prompts": 4}, "ppo.sampling.prompts": 8,
    }  # fmt: skip


def test_a_round_may_say_on_how_many_devices_a_stage_trains():
    stages = plan_stages("reward-dpo", changes=read_settings("reward.devices=2"))
    devices = {spec["stage"]: devices_of(spec) for spec in stages}
    assert devices["reward"] == 2 and set(devices.values()) == {1, 2}
    devices = {spec["stage"]: devices_of(spec, held=4) for spec in stages}
    assert (devices["reward"], devices["preference"], devices["evaluate"]) == (2, 4, 1)


@pytest.mark.parametrize(("line", "sentence"), [
    ("evaluate.devices=2", "the stage evaluate runs on one device"),
    ("reward.devices=0", "1 or more"),
    ("reward.devices=many", "1 or more"),
    ('reward.devices=2\nreward.mitigation={"length_head": 1.0}', "length_head is 1.0: leave it out on 2 devices"),
])  # fmt: skip
def test_devices_that_a_stage_cannot_run_on_are_refused(line, sentence):
    with pytest.raises(OptionRefused, match=sentence) as refused:
        plan_stages("reward-dpo", changes=read_settings(line))
    assert refused.value.option == line.partition("=")[0]


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
