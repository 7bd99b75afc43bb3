"""What may be launched, from where, and what is refused with a sentence."""

import json
import threading
from io import StringIO
from pathlib import Path

import httpx
import pytest
from celery import Celery
from django.core.management import CommandError, call_command

import labelapp.celery
from alignment.manifest import split_of
from labelapp.models import Round
from labelapp.rounds.actions import (
    ParentRefused,
    RoundAlreadyActive,
    SnapshotRefused,
    launch_round,
    request_cancel,
)
from labelapp.rounds.presets import PRESETS
from labelapp.rounds.recipes import OptionRefused, plan_stages
from tests.factories import make_project, make_prompt, make_user, make_version
from tests.rounds.material import make_parent, make_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project(admin=make_user())


@pytest.fixture
def given(project):
    return {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}


def test_a_launched_round_has_its_stages_and_its_event(given):
    round = launch_round(**given)
    assert (round.number, round.state) == (1, "queued")
    assert [stage.name for stage in round.stages.all()] == ["reward", "preference", "evaluate", "audit"]
    assert [event.kind for event in round.events.all()] == ["launched"]


def test_policies_are_compared_on_held_out_prompts_and_fresh_ones_are_among_them(given):
    project = given["project"]
    for number in range(40):
        make_prompt(project, f"Argue for number {number}.", group=f"group {number}", fresh=number % 2 == 0)
    held_out = {p.pk for p in project.prompts.all() if split_of(p.group, project.test_share) == "test"}
    round = launch_round(**given, changes={"evaluate.max_prompts": len(held_out) + 1})
    config = next(spec["config"] for spec in round.recipe["stages"] if spec["name"] == "evaluate")
    asked = {json.loads(line)["id"] for line in Path(config["prompts"]).read_text().splitlines()}
    assert asked == held_out and 0 < len(asked) < 40


def test_numbers_count_on_after_a_cancelled_round(given):
    request_cancel(round=launch_round(**given))
    assert launch_round(**given).number == 2


def test_a_second_active_round_is_refused_by_name_and_names_the_first(given):
    first = launch_round(**given)
    with pytest.raises(RoundAlreadyActive) as refusal:
        launch_round(**given)
    assert refusal.value.round == first


def test_the_mitigation_adds_an_arm_without_it_on_the_same_seed(given):
    specs = {spec["name"]: spec for spec in launch_round(**given, mitigation=True, seed=7).recipe["stages"]}
    assert list(specs) == ["reward_baseline", "reward", "preference", "evaluate", "audit"]
    assert specs["reward_baseline"]["config"]["counterfactual_weight"] == 0
    assert specs["reward"]["config"]["counterfactual_weight"] == 10
    without = {name: value for name, value in specs["reward"]["config"].items() if name != "counterfactual_weight"}
    assert without.items() <= specs["reward_baseline"]["config"].items()
    assert specs["evaluate"]["inputs"]["reward_baseline"] == "stage:reward_baseline"


def test_a_penalty_weight_of_ones_own_reaches_the_mitigated_arm_only():
    specs = plan_stages("reward-dpo", mitigation=True, changes={"reward.counterfactual_weight": 3.0})
    assert [spec["config"].get("counterfactual_weight") for spec in specs[:2]] == [0.0, 3.0]


def test_without_the_mitigation_the_penalty_is_off_whatever_its_weight():
    specs = plan_stages("reward-dpo", changes={"reward.counterfactual_weight": 3.0})
    assert specs[0]["config"].get("counterfactual_weight", 0.0) == 0.0


@pytest.mark.parametrize(
    ("path", "value"),
    [("preference.beta", -1), ("reward.optimization.learning_rate", 5), ("reward.nonsense", 1), ("grpo.beta", 1)],
)
def test_a_value_out_of_range_is_refused_with_its_option(given, path, value):
    with pytest.raises(OptionRefused) as refusal:
        launch_round(**given, changes={path: value})
    assert refusal.value.option == path
    assert not Round.objects.exists()


@pytest.mark.parametrize(("path", "value"), [("sft.rows", "file:"), ("sft.rows", "file:sft/rows.jsonl")])
def test_a_value_that_names_no_file_of_an_earlier_stage_is_refused(given, path, value):
    with pytest.raises(OptionRefused, match="names no file of an earlier stage") as refusal:
        launch_round(**given, recipe="best-of-n", changes={path: value})
    assert refusal.value.option == path


def test_a_snapshot_without_test_pairs_is_refused(given):
    given["project"].snapshots.all()
    other = make_project()
    empty = make_snapshot(other, pairs_test=0)
    with pytest.raises(SnapshotRefused, match="test split"):
        launch_round(project=other, snapshot=empty, parent=make_parent(other))


def test_a_snapshot_of_another_project_is_refused(given):
    with pytest.raises(SnapshotRefused, match="another project"):
        launch_round(**given | {"snapshot": make_snapshot(make_project())})


def test_a_parent_whose_files_are_gone_is_refused(given):
    with pytest.raises(ParentRefused, match="not as they were"):
        launch_round(**given | {"parent": make_version(given["project"])})


def test_a_reward_model_is_no_parent(given):
    with pytest.raises(ParentRefused, match="starts from a policy"):
        launch_round(**given | {"parent": make_version(given["project"], kind="reward")})


def test_a_broker_that_is_away_does_not_fail_the_launch(given, monkeypatch, django_capture_on_commit_callbacks):
    unreachable = Celery(broker="redis://127.0.0.1:1/0", set_as_current=False)
    unreachable.conf.task_publish_retry_policy = {"max_retries": 0}
    monkeypatch.setattr(labelapp.celery, "app", unreachable)
    with django_capture_on_commit_callbacks(execute=True):
        round = launch_round(**given)
    round.refresh_from_db()
    assert round.state == "queued"


def test_the_form_launches_and_goes_to_the_round(client, given):
    client.force_login(given["project"].memberships.get().user)
    answer = client.post(f"/p/{given['project'].slug}/rounds/new/", form_of(given) | {"preference.beta": "0.2"})
    round = Round.objects.get()
    assert answer["Location"] == f"/p/{given['project'].slug}/rounds/{round.number}/"
    assert round.recipe["changes"] == {"preference.beta": 0.2}


def test_the_form_shows_a_refused_value_at_its_field(client, given):
    client.force_login(given["project"].memberships.get().user)
    answer = client.post(f"/p/{given['project'].slug}/rounds/new/", form_of(given) | {"preference.beta": "-1"})
    assert answer.status_code == 422
    assert answer.context["form"].errors["preference.beta"]


def test_the_form_answers_a_second_launch_with_a_link_to_the_first(client, given):
    launch_round(**given)
    client.force_login(given["project"].memberships.get().user)
    answer = client.post(f"/p/{given['project'].slug}/rounds/new/", form_of(given))
    assert answer.status_code == 409
    assert f"/p/{given['project'].slug}/rounds/1/" in answer.content.decode()


def form_of(given: dict) -> dict:
    return {"recipe": "reward-dpo", "snapshot": given["snapshot"].pk, "parent": given["parent"].pk}


@pytest.mark.parametrize("recipe", PRESETS)
def test_every_recipe_is_planned_shown_in_a_form_and_launched_as_it_stands(client, project, recipe):
    snapshot, parent = make_snapshot(project, "safety"), make_parent(project)
    client.force_login(project.memberships.get().user)
    address = f"/p/{project.slug}/rounds/new/"
    page = client.get(f"{address}?recipe={recipe}")
    form = page.context["form"]
    assert form["recipe"].value() == recipe and PRESETS[recipe].about in page.content.decode()
    shown = {field.html_name: field.value() for field in form.numbers()}
    given = {"recipe": recipe, "snapshot": snapshot.pk, "parent": parent.pk, "further": ""}
    assert client.post(address, given | shown).status_code == 302
    round = Round.objects.get()
    assert round.recipe["name"] == recipe and not round.recipe["changes"]  # what the form shows is what runs
    assert [stage.name for stage in round.stages.all()] == [spec["name"] for spec in PRESETS[recipe].stages]


def test_safe_rlhf_is_refused_where_nobody_judged_safety(given):
    with pytest.raises(SnapshotRefused, match="asks for safety"):
        launch_round(**given, recipe="safe")
    assert not Round.objects.exists()


def test_further_settings_reach_their_stages_and_a_wrong_one_is_shown_where_it_was_written(client, given):
    client.force_login(given["project"].memberships.get().user)
    address = f"/p/{given['project'].slug}/rounds/new/"
    for further, said in (("reward.lora.rank", "no PATH=VALUE"), ("reward.lora.rang=4", "rang"), ("sft.x=1", "sft.x")):
        answer = client.post(address, form_of(given) | {"further": further})
        assert answer.status_code == 422 and said in str(answer.context["form"].errors["further"])
    assert client.post(address, form_of(given) | {"further": "reward.lora.rank=4\n\n"}).status_code == 302
    stages = {spec["name"]: spec["config"] for spec in Round.objects.get().recipe["stages"]}
    assert stages["reward"]["lora"] == {"rank": 4}


def test_an_unknown_recipe_is_refused(client, given):
    client.force_login(given["project"].memberships.get().user)
    answer = client.post(f"/p/{given['project'].slug}/rounds/new/", form_of(given) | {"recipe": "alchemy"})
    assert answer.status_code == 422 and answer.context["form"].errors["recipe"]


@pytest.mark.faults
@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_sixteen_launches_on_two_web_processes_one_becomes_a_round(web_server):
    project = make_project()
    given = {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}
    addresses = [web_server(), web_server()]
    browsers = [sign_in(project, addresses[number % 2]) for number in range(16)]
    gate, answers = threading.Barrier(16), []

    def post(browser: httpx.Client):
        gate.wait()
        answers.append(browser.post(f"/p/{project.slug}/rounds/new/", data=form_of(given)).status_code)

    threads = [threading.Thread(target=post, args=[browser]) for browser in browsers]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(answers) == [302] + [409] * 15
    assert Round.objects.count() == 1


def sign_in(project, address: str) -> httpx.Client:
    """A session of its own for a new admin of the project."""
    from django.test import Client

    from tests.factories import add_member

    user, token = make_user(), "t" * 32
    add_member(project, user, "admin")
    session = Client()
    session.force_login(user)
    cookies = {"sessionid": session.cookies["sessionid"].value, "csrftoken": token}
    headers = {"X-CSRFToken": token, "Referer": address}
    return httpx.Client(base_url=address, cookies=cookies, headers=headers, timeout=60)


def told(*words, **options):
    out = StringIO()
    call_command(*words, stdout=out, **options)
    return out.getvalue()


def test_the_shell_launches_the_same_round(given):
    slug = given["project"].slug
    said = json.loads(told("launch", slug, "--mitigation", "--seed", "3", "--set", "preference.beta=0.3", "--json"))
    round = Round.objects.get()
    assert (said["number"], said["state"]) == (1, "queued")
    assert (round.mitigation, round.seed, round.recipe["changes"]) == (True, 3, {"preference.beta": 0.3})
    assert json.loads(told("rounds", slug, "--json"))[0]["number"] == 1


def test_the_shell_refuses_as_the_page_does(given):
    told("launch", given["project"].slug)
    with pytest.raises(CommandError, match="one round at a time"):
        told("launch", given["project"].slug)
    with pytest.raises(CommandError, match="beta"):
        told("launch", given["project"].slug, "--set", "preference.beta=-1")
    with pytest.raises(CommandError, match="no project"):
        told("launch", "nowhere")


def test_the_shell_cancels(given):
    told("launch", given["project"].slug)
    assert json.loads(told("rounds", given["project"].slug, "--cancel", "1", "--json"))["state"] == "cancelled"
    with pytest.raises(CommandError, match="already"):
        told("rounds", given["project"].slug, "--cancel", "1")
