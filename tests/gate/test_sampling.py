"""Sampling rounds: which prompts are drawn, and what becomes of the answers."""

import json
from pathlib import Path

import pytest

from labelapp.labeling.queue import claim_slot
from labelapp.models import Comparison, Completion, EngineVersion, Round, RoundEvent, Slot, Version
from labelapp.rounds import sampling
from labelapp.rounds.actions import RoundAlreadyActive
from labelapp.rounds.failures import StageFailed
from labelapp.rounds.promote import deployment_of, promote
from labelapp.rounds.sampling import collect, sample_comparisons
from labelapp.rounds.supervise import supervise_round
from tests.factories import add_member, make_project, make_prompt, make_user, make_version
from tests.gate.rounds import make_passing


@pytest.fixture
def admin(db):
    return make_user()


@pytest.fixture
def project(admin):
    project = make_project(admin=admin, overlap=2)
    for _ in range(8):
        make_prompt(project, fresh=True)
    make_prompt(project)  # not fresh: it came with completions
    return project


@pytest.fixture
def promoted(project, admin, tmp_path):
    """A promoted version with a parent."""
    parent = make_passing(project, tmp_path)
    version = make_passing(project, tmp_path, parent=parent)
    promote(deployment=deployment_of(project), version=version, by=admin, seen_epoch=0)
    return version


def answer(round: Round, folder: Path, texts: dict[str, dict[int, list[str]]]) -> Round:
    """Write the stages' answers as `generate` does: texts by stage, then by place of the prompt in the round."""
    for stage in round.stages.all():
        stage.output, stage.state = str(folder / f"{round.pk}-{stage.name}"), "done"
        stage.job = {"config": {"temperature": 1.0, "max_new_tokens": 8}, "seed": 5}
        stage.save()
        Path(stage.output).mkdir(exist_ok=True)
        rows = [
            {"id": round.recipe["prompts"][place], "text": text, "tokens": 3}
            for place, found in texts[stage.name].items()
            for text in found
        ]
        (Path(stage.output) / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return round


def test_the_prompts_are_drawn_at_random_from_the_fresh_ones_and_the_odds_are_kept(project, promoted, admin):
    round = sample_comparisons(project=project, by=admin, prompts=4, seed=7)

    fresh = set(project.prompts.filter(fresh=True).values_list("pk", flat=True))
    assert (round.kind, round.state, round.parent, round.created_by) == ("sampling", "queued", promoted, admin)
    assert set(round.recipe["prompts"]) < fresh and len(round.recipe["prompts"]) == 4
    assert round.recipe["propensity"] == 4 / 8
    first, second = round.recipe["stages"]
    assert first["inputs"] == {"policy": f"version:{promoted.pk}"}
    assert second["inputs"] == {"policy": f"version:{promoted.parent.pk}"}
    assert first["seed"] != second["seed"]
    lines = Path(first["config"]["prompts"]).read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == round.recipe["prompts"]
    assert json.loads(lines[0])["messages"][0]["role"] == "user"


def test_another_seed_draws_other_prompts(project, promoted):
    draws = set()
    for seed in range(6):
        round = sample_comparisons(project=project, prompts=4, seed=seed)
        draws.add(frozenset(round.recipe["prompts"]))
        Round.objects.update(state="done")
    assert len(draws) > 1


def test_answers_become_blind_comparisons_in_the_queue(project, promoted, tmp_path):
    round = sample_comparisons(project=project, prompts=2, seed=7)
    answer(round, tmp_path, {
        "sample_promoted": {0: ["new one"], 1: ["new two"]},
        "sample_parent": {0: ["old one"], 1: ["old two"]},
    })  # fmt: skip

    nothing_else = dict.fromkeys(["identical", "empty", "missing", "known", "passed_over"], 0)
    assert collect(round)._asdict() == {"comparisons": 2, **nothing_else}

    for comparison in Comparison.objects.all():
        assert (comparison.origin, comparison.round, comparison.propensity) == ("random", round, 2 / 8)
        assert {c.version for c in comparison.ordered_completions()} == {promoted, promoted.parent}
    assert Slot.objects.count() == 2 * project.overlap
    labeler = make_user()
    add_member(project, labeler, "labeler")
    assert claim_slot(project=project, labeler=labeler).comparison.round == round
    written = Completion.objects.get(text="new one")
    assert (written.author, written.version) == ("", promoted)
    assert written.sampling == {"temperature": 1.0, "max_new_tokens": 8, "stage_seed": 5, "tokens": 3}


def test_the_order_of_the_two_answers_says_nothing_of_their_author(project, promoted, tmp_path):
    for _ in range(32):
        make_prompt(project, fresh=True)
    round = sample_comparisons(project=project, prompts=40, seed=7)
    answer(round, tmp_path, {
        "sample_promoted": {n: [f"new {n}"] for n in range(40)}, "sample_parent": {n: [f"old {n}"] for n in range(40)}
    })  # fmt: skip
    collect(round)

    firsts = [comparison.ordered_completions()[0].version for comparison in Comparison.objects.all()]
    assert 8 < firsts.count(promoted) < 32
    assert 8 < sum(slot.display_order == [0, 1] for slot in Slot.objects.filter(number=0)) < 32


def test_collecting_twice_adds_nothing(project, promoted, tmp_path):
    round = sample_comparisons(project=project, prompts=1, seed=7)
    answer(round, tmp_path, {"sample_promoted": {0: ["new"]}, "sample_parent": {0: ["old"]}})

    assert collect(round) == collect(round)

    assert (Comparison.objects.count(), Completion.objects.count(), Slot.objects.count()) == (1, 2, 2)
    assert RoundEvent.objects.filter(kind="collected").count() == 1


def test_answers_that_cannot_be_compared_are_counted_and_left_out(project, promoted, tmp_path):
    round = sample_comparisons(project=project, prompts=4, seed=7)
    answer(round, tmp_path, {
        "sample_promoted": {0: ["same"], 1: ["  \n"], 2: ["alone"], 3: ["a\u2028b\0"]},
        "sample_parent": {0: ["same"], 1: ["old"], 3: ["old"]},
    })  # fmt: skip

    collected = collect(round)

    each_once = dict.fromkeys(["comparisons", "identical", "empty", "missing"], 1)
    assert collected._asdict() == {**each_once, "known": 0, "passed_over": 0}
    assert Completion.objects.filter(text="a\u2028b\ufffd").exists()
    assert round.events.get(kind="collected").detail == collected._asdict()


def test_prompts_that_this_pair_was_compared_on_are_not_drawn_again(project, promoted, tmp_path):
    first = sample_comparisons(project=project, prompts=5, seed=7)
    answer(first, tmp_path, {
        "sample_promoted": {n: [f"new {n}"] for n in range(5)}, "sample_parent": {n: [f"old {n}"] for n in range(5)}
    })  # fmt: skip
    collect(first)
    Round.objects.update(state="done")

    second = sample_comparisons(project=project, prompts=5, seed=7)

    assert len(second.recipe["prompts"]) == 3
    assert second.recipe["propensity"] == 1.0
    assert not set(second.recipe["prompts"]) & set(first.recipe["prompts"])


def test_a_version_without_a_parent_is_compared_with_itself_at_two_draws(project, admin, tmp_path):
    version = make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=version, by=admin, seen_epoch=0)
    round = sample_comparisons(project=project, prompts=2, seed=7)
    (spec,) = round.recipe["stages"]
    assert spec["config"]["samples"] == 2
    answer(round, tmp_path, {"sample": {0: ["one", "two"], 1: ["same", "same"]}})

    assert collect(round)[:2] == (1, 1)
    assert {c.version for c in Comparison.objects.get().ordered_completions()} == {version}


def test_answers_that_cannot_be_read_fail_the_round_with_the_file_named(project, promoted, tmp_path):
    round = sample_comparisons(project=project, prompts=1, seed=7)
    answer(round, tmp_path, {"sample_promoted": {0: ["new"]}, "sample_parent": {0: ["old"]}})
    (tmp_path / f"{round.pk}-sample_parent" / "completions.jsonl").write_text('{"id": 1}\n')

    with pytest.raises(StageFailed, match=r"sample_parent cannot be read from .*completions\.jsonl"):
        collect(round)


def test_refusals_name_the_remedy(project, admin, tmp_path):
    with pytest.raises(sampling.NothingPromoted, match="promote a version first"):
        sample_comparisons(project=project)

    version = make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=version, by=admin, seen_epoch=0)
    for wrong in ({"temperature": -1.0}, {"warmth": 1}, {"prompts": 0}):
        with pytest.raises(sampling.SamplingRefused):
            sample_comparisons(project=project, **wrong)

    sample_comparisons(project=project)
    with pytest.raises(RoundAlreadyActive):
        sample_comparisons(project=project)
    Round.objects.update(state="done")

    project.prompts.update(fresh=False)
    with pytest.raises(sampling.NoFreshPrompts, match="import more prompts"):
        sample_comparisons(project=project)

    (Path(version.path) / "model.safetensors").unlink()
    with pytest.raises(sampling.SamplingRefused, match=r"model\.safetensors is missing"):
        sample_comparisons(project=project)


@pytest.mark.django_db(transaction=True)
def test_a_real_sampling_round_puts_two_policies_answers_before_the_labelers(tmp_path):
    admin = make_user()
    project = make_project(admin=admin)
    for text in ("Argue that books are better.", "Argue that trains are better."):
        make_prompt(project, text, fresh=True)
    parent, version = (tiny_version(project, tmp_path / f"tiny-{seed}", seed) for seed in (0, 1))
    Version.objects.filter(pk=version.pk).update(parent=parent)
    EngineVersion.objects.create(version=version, state="ready")
    promote(deployment=deployment_of(project), version=version, by=admin, reason="a test", seen_epoch=0)
    round = sample_comparisons(project=project, by=admin, seed=3, max_new_tokens=6)

    supervise_round(round.pk)

    round.refresh_from_db()
    assert (round.state, round.error) == ("done", "")
    assert round.comparisons.count() == 2
    for comparison in round.comparisons.all():
        written = {completion.version: completion for completion in comparison.ordered_completions()}
        assert set(written) == {parent, version}
        assert written[version].sampling["seed"] != written[parent].sampling["seed"]
    labeler = make_user()
    add_member(project, labeler, "labeler")
    assert claim_slot(project=project, labeler=labeler).comparison.round == round


def tiny_version(project, folder: Path, seed: int) -> Version:
    from tests.tiny_models import make_tiny_policy

    return make_version(project, path=str(folder), digest=make_tiny_policy(folder, seed))
