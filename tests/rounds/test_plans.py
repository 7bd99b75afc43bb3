"""Sampling plans: roles become versions, candidates are scored, and the pick keeps its odds."""

import json
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from labelapp.models import Comparison, Round, SamplingPlan
from labelapp.rounds.actions import RoundAlreadyActive
from labelapp.rounds.failures import StageFailed
from labelapp.rounds.plans import PlanRefused, eligible_prompts, run_plan, sides_of
from labelapp.rounds.promote import deployment_of, promote
from labelapp.rounds.sampling import NoFreshPrompts, SamplingRefused, collect
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_completion, make_project, make_prompt, make_user, make_version
from tests.gate.rounds import make_passing
from tests.rounds.material import make_parent, policy_files


@pytest.fixture
def project(db, tmp_path):
    project = make_project(
        "plans", admin=make_user("adm"), researcher=make_user("res"), labeler=make_user("lab")
    )
    for _ in range(30):
        make_prompt(project, fresh=True)
    return project


@pytest.fixture
def champion(project, tmp_path):
    parent = make_passing(project, tmp_path, name="parent")
    version = make_passing(project, tmp_path, name="champion", parent=parent)
    admin = project.memberships.get(role="admin").user
    promote(deployment=deployment_of(project), version=version, by=admin, seen_epoch=0)
    return version


def make_plan(project, **fields) -> SamplingPlan:
    return SamplingPlan.objects.create(project=project, name=f"plan {fields}"[:80], **fields)


def make_reward(project, folder: Path, heads: int = 3):
    """A reward model that a round made; its files are there."""
    from alignment.manifest import write_manifest

    path = folder / f"reward-{heads}"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"id2label": {str(n): f"reward#{n}" for n in range(heads)}}))
    round = Round.objects.create(project=project, number=900 + heads, recipe={"stages": []}, state="done")
    digest = write_manifest(path, kind="checkpoint")
    return make_version(project, kind="reward", name=f"reward-r{heads}", path=str(path), digest=digest, round=round)


def finish(round: Round, folder: Path, texts: dict[str, str], scores: dict[str, list[float]]) -> Round:
    """Write what the stages would: a text a prompt and side, and its members' scores by the prompt's place."""
    for stage in round.stages.all():
        stage.output, stage.state = str(folder / f"{round.pk}-{stage.name}"), "done"
        stage.job = {"config": {}, "seed": 1}
        stage.save()
        Path(stage.output).mkdir()
        side = stage.name.partition("_")[2]
        rows = [
            {"id": pk, "text": f"{texts[side]} {place}"} if stage.stage == "generate"
            else {"id": pk, "scores": [value * (place + 1) for value in scores[side]], "drift_nats": 0.1}
            for place, pk in enumerate(round.recipe["prompts"])
        ]  # fmt: skip
        name = "completions.jsonl" if stage.stage == "generate" else "scores.jsonl"
        (Path(stage.output) / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return round


def test_roles_become_the_versions_that_have_them_now(project, champion, tmp_path):
    assert sides_of(make_plan(project, second="parent"))[:2] == (champion, champion.parent)
    assert sides_of(make_plan(project, second="same"))[:2] == (champion, champion)
    with pytest.raises(PlanRefused, match="has no parent"):
        candidate = make_version(project, name="newest")
        sides_of(make_plan(project, first="candidate", second="parent"))
    assert sides_of(make_plan(project, first="candidate", second="champion"))[:2] == (candidate, champion)
    with pytest.raises(PlanRefused, match="Both sides are champion"):
        sides_of(make_plan(project, second="champion"))


def test_without_a_champion_nothing_can_be_sampled(project):
    with pytest.raises(PlanRefused, match="no version that is the promoted version"):
        run_plan(plan=make_plan(project))


def test_each_side_answers_at_its_own_temperature(project, champion):
    round = run_plan(plan=make_plan(project, second="same", first_temperature=0.2, second_temperature=1.5))
    first, second = round.recipe["stages"]
    assert (first["config"]["temperature"], second["config"]["temperature"]) == (0.2, 1.5)
    assert first["inputs"] == second["inputs"] and first["seed"] != second["seed"]
    assert len(round.recipe["prompts"]) == 20 and round.recipe["propensity"] == 20 / 30


def test_what_picks_asks_for_candidates_and_scores_them(project, champion, tmp_path):
    reward = make_reward(project, tmp_path)
    round = run_plan(plan=make_plan(project, signal="drift", comparisons=5, candidates=4))
    assert len(round.recipe["prompts"]) == 20
    score = round.recipe["stages"][2]
    assert score["stage"] == "score" and score["config"]["completions"] == "file:sample_first/completions.jsonl"
    assert score["inputs"] == {
        "reward": f"version:{reward.pk}", "policy": f"version:{champion.pk}", "parent": f"version:{champion.parent.pk}",
    }  # fmt: skip


def test_picked_comparisons_carry_their_arm_and_their_odds(project, champion, tmp_path):
    make_reward(project, tmp_path)
    plan = make_plan(project, signal="margin", comparisons=5, candidates=6, control_share=0.2)
    round = run_plan(plan=plan, seed=1)
    finish(round, tmp_path, {"first": "one", "second": "two"}, {"first": [1.0, 1.0], "second": [0.0, 0.0]})
    collected = collect(round)
    assert collected.comparisons == 5 and collected.passed_over == 25
    rows = list(Comparison.objects.filter(round=round))
    assert sorted(row.origin for row in rows) == ["active"] * 4 + ["random"]
    control = next(row for row in rows if row.origin == "random")
    assert control.propensity == pytest.approx(1 / 6)  # of a pool of 6 out of 30, and every fresh prompt was asked
    assert all(0 < row.propensity <= 1 for row in rows)
    place = {pk: number for number, pk in enumerate(round.recipe["prompts"])}
    active = [place[row.prompt_id] for row in rows if row.origin == "active"]
    assert sum(active) / 4 < 10  # the margin grows with the place, and small margins are wanted
    assert collect(round).comparisons == 5 and Comparison.objects.filter(round=round).count() == 5


def test_stored_answers_of_another_model_are_compared_with_a_version(project, champion, tmp_path):
    make_reward(project, tmp_path)
    for number in range(4):
        make_completion(make_prompt(project, f"Asked elsewhere {number}?"), f"Theirs {number}.", author="gpt")
    plan = make_plan(project, second="author", author="gpt", signal="margin", comparisons=2, candidates=2)
    round = run_plan(plan=plan)
    assert [spec["name"] for spec in round.recipe["stages"]] == ["sample_first", "score_first", "score_second"]
    answers = Path(round.recipe["stages"][2]["config"]["completions"]).read_text().splitlines()
    assert {json.loads(line)["text"] for line in answers} == {f"Theirs {n}." for n in range(4)}
    finish(round, tmp_path, {"first": "one"}, {"first": [1.0], "second": [0.0]})
    assert collect(round).comparisons == 2
    authors = {c.author or c.version.name for row in Comparison.objects.all() for c in row.completions.all()}
    assert authors == {"gpt", "champion"}
    assert eligible_prompts(plan, sides_of(plan)).count() == 2


def test_what_cannot_be_told_is_refused_with_its_remedy(project, champion, tmp_path):
    with pytest.raises(PlanRefused, match="No round has made a reward model"):
        run_plan(plan=make_plan(project, signal="margin"))
    make_reward(project, tmp_path, heads=1)
    with pytest.raises(PlanRefused, match=r"reward\.heads\.ensemble=5"):
        run_plan(plan=make_plan(project, signal="disagreement"))
    with pytest.raises(PlanRefused, match="two different versions"):
        run_plan(plan=make_plan(project, second="same", signal="drift"))
    with pytest.raises(NoFreshPrompts):
        run_plan(plan=make_plan(project, second="author", author="nobody"))
    with pytest.raises(SamplingRefused, match="temperature"):
        run_plan(plan=make_plan(project, first_temperature=-1))


def test_one_sampling_round_at_a_time(project, champion):
    run_plan(plan=make_plan(project))
    with pytest.raises(RoundAlreadyActive):
        run_plan(plan=make_plan(project, second="same"))


def test_an_answer_without_a_score_ends_the_round_with_a_sentence(project, champion, tmp_path):
    make_reward(project, tmp_path)
    round = run_plan(plan=make_plan(project, signal="margin", comparisons=2))
    finish(round, tmp_path, {"first": "one", "second": "two"}, {"first": [1.0], "second": [0.0]})
    (tmp_path / f"{round.pk}-score_first" / "scores.jsonl").write_text("")
    with pytest.raises(StageFailed, match="have no score"):
        collect(round)


@pytest.mark.parametrize(
    "wrong, name",
    [
        ({"control_share": 0.0}, "plan_always_has_a_control_arm"),
        ({"second": "author"}, "plan_names_an_author_where_it_needs_one"),
        ({"author": "gpt"}, "plan_names_an_author_where_it_needs_one"),
        ({"first": "parent"}, "plan_samples_a_version"),
        ({"candidates": 0}, "plan_is_of_a_size"),
    ],
)
def test_the_database_refuses_plans_that_make_no_sense(project, wrong, name):
    with pytest.raises(IntegrityError, match=name), transaction.atomic():
        make_plan(project, **wrong)


def test_a_plans_name_is_its_own(project):
    SamplingPlan.objects.create(project=project, name="one")
    with pytest.raises(IntegrityError, match="plan_name_is_unique"), transaction.atomic():
        SamplingPlan.objects.create(project=project, name="one")


@pytest.mark.django_db(transaction=True)
def test_a_plan_that_picks_runs_whole_with_the_real_trainer(settings, tmp_path):
    from tests.tiny_models import make_tiny_reward

    project = make_project("whole")
    for number in range(6):
        make_prompt(project, f"Say {number}.", fresh=True)
    policy = make_parent(project)
    deployment = deployment_of(project)
    type(deployment).objects.filter(pk=deployment.pk).update(version=policy)
    path = tmp_path / "reward"
    digest = make_tiny_reward(path, policy_files()[0])
    round = Round.objects.create(project=project, number=50, recipe={"stages": []}, state="done")
    make_version(project, kind="reward", name="reward-r50", path=str(path), digest=digest, round=round)
    plan = make_plan(project, second="same", signal="margin", comparisons=2, candidates=3, max_new_tokens=6)
    sampling = run_plan(plan=plan, seed=3)
    supervise_round(sampling.pk)
    sampling.refresh_from_db()
    assert sampling.state == "done", sampling.error
    detail = sampling.events.get(kind="collected").detail
    assert detail["comparisons"] + detail["known"] >= 1
    assert set(Comparison.objects.values_list("origin", flat=True)) <= {"random", "active"}


# Pages


def client(username: str) -> Client:
    from labelapp.models import User

    found = Client()
    found.force_login(User.objects.get(username=username))
    return found


FORM = {
    "name": "mine", "first": "champion", "second": "same", "first_temperature": 1, "second_temperature": 0.5,
    "max_new_tokens": 20, "comparisons": 3, "candidates": 2, "signal": "", "control_share": 0.2, "author": "",
}  # fmt: skip


def test_an_admin_keeps_runs_and_removes_a_plan(project, champion):
    admin = client("adm")
    assert admin.post(reverse("plan_add", args=["plans"]), FORM).status_code == 302
    plan = project.sampling_plans.get()
    page = admin.get(reverse("plans", args=["plans"])).content.decode()
    assert "champion against champion; 30 prompts are left" in page
    ran = admin.post(reverse("plan_run", args=["plans", plan.pk]))
    assert ran.headers["Location"] == reverse("round", args=["plans", project.rounds.get(kind="sampling").number])
    admin.post(reverse("plan_remove", args=["plans", plan.pk]))
    assert not project.sampling_plans.exists()


@pytest.mark.parametrize(
    "wrong", [{"control_share": 0}, {"second": "author"}, {"first_temperature": 9}, {"comparisons": 0}, {"name": ""}]
)
def test_a_plan_that_makes_no_sense_comes_back_with_its_reason(project, wrong):
    response = client("adm").post(reverse("plan_add", args=["plans"]), {**FORM, **wrong})
    assert response.status_code == 422 and not project.sampling_plans.exists()


def test_researchers_look_and_only_admins_act(project, champion):
    make_user("stranger")
    plan = make_plan(project)
    assert client("res").get(reverse("plans", args=["plans"])).status_code == 200
    assert client("stranger").get(reverse("plans", args=["plans"])).status_code == 404
    assert client("lab").get(reverse("plans", args=["plans"])).status_code == 403
    for name, args in (("plan_add", []), ("plan_run", [plan.pk]), ("plan_remove", [plan.pk])):
        address = reverse(name, args=["plans", *args])
        assert [client(who).post(address, FORM).status_code for who in ("res", "lab", "stranger")] == [403, 403, 404]


def test_a_plan_of_another_project_is_not_found(project, champion):
    other = make_plan(make_project("other"))
    assert client("adm").post(reverse("plan_run", args=["plans", other.pk])).status_code == 404
