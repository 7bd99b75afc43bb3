"""Blind comparisons: ordering, collecting, counting, ending, and what the gate makes of them."""

from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from alignment.manifest import split_of
from labelapp.labeling.actions import judge
from labelapp.labeling.answers import Answer
from labelapp.labeling.queue import claim_slot
from labelapp.models import Comparison, ProtocolVersion, Round, Slot, Trial, WorkDay
from labelapp.rounds import trial_orders, trials
from labelapp.rounds.decision import decide
from labelapp.rounds.promote import deployment_of, promote
from labelapp.rounds.sampling import collect
from labelapp.rounds.trial_orders import TrialRefused, order_trial
from tests.factories import add_member, make_project, make_prompt, make_user
from tests.gate.rounds import make_gate, make_passing
from tests.gate.test_sampling import answer
from tests.gate.test_version_pages import text_of
from tests.site.filled import claim

HELD_OUT = [name for name in (f"debate {number}" for number in range(200)) if split_of(name, 0.2) == "test"]
TRAINED = next(name for name in (f"debate {number}" for number in range(99)) if split_of(name, 0.2) == "train")


@pytest.fixture
def admin(db):
    return make_user("ada")


@pytest.fixture
def labeler(db):
    return make_user("lena")


@pytest.fixture
def project(admin, labeler):
    project = make_project("arguments", admin=admin, labeler=labeler, overlap=3)
    for group in HELD_OUT[:30]:
        make_prompt(project, group=group)
    make_prompt(project, group=TRAINED)
    return project


@pytest.fixture
def versions(project, admin, tmp_path):
    """(candidate, champion), the champion answering."""
    champion, candidate = make_passing(project, tmp_path), make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=champion, by=admin, seen_epoch=0)
    return candidate, champion


def order(project, versions, admin, **fields) -> Trial:
    return order_trial(project=project, candidate=versions[0], by=admin, **{"difference": 0.2, **fields})


def collected(trial: Trial, folder, equal: int = 0) -> Trial:
    """As if both versions had answered; the first `equal` prompts alike."""
    places = range(len(trial.round.recipe["prompts"]))
    texts = {
        "sample_champion": {place: [f"the same {place}" if place < equal else f"old {place}"] for place in places},
        "sample_candidate": {place: [f"the same {place}" if place < equal else f"new {place}"] for place in places},
    }
    collect(answer(trial.round, folder, texts))
    Round.objects.filter(pk=trial.round_id).update(state="done")
    return Trial.objects.get(pk=trial.pk)


def say(trial: Trial, labeler, verdicts: str) -> None:
    """Judge so many comparisons: W the candidate is better, L the champion, T a tie, B both bad."""
    for verdict in verdicts:
        slot = claim_slot(project=trial.project, labeler=labeler)
        place = trials.places_of(trial, trial.candidate_id)[slot.comparison_id]
        right = (slot.display_order.index(place) == 1) == (verdict == "W")
        said = Answer(both_bad=True) if verdict == "B" else Answer(strength=0 if verdict == "T" else 2 if right else -2)
        judge(claim=claim(slot), labeler=labeler, submission_id=uuid4(), answer=said, active_seconds=9.0)


def test_an_order_samples_both_versions_on_held_out_prompts(project, versions, admin):
    trial = order(project, versions, admin)
    groups = set(project.prompts.filter(pk__in=trial.round.recipe["prompts"]).values_list("group", flat=True))
    assert groups <= set(HELD_OUT) and TRAINED not in groups
    assert (trial.candidate, trial.champion) == versions
    assert trial.needed == 50 and len(trial.round.recipe["prompts"]) == 30  # there are no more
    inputs = {spec["name"]: spec["inputs"]["policy"] for spec in trial.round.recipe["stages"]}
    assert inputs["sample_candidate"] == f"version:{versions[0].pk}"
    assert inputs["sample_champion"] == f"version:{versions[1].pk}"


def test_the_answers_become_comparisons_of_their_own_batch_with_one_place_each(project, versions, admin, tmp_path):
    trial = collected(order(project, versions, admin), tmp_path, equal=4)
    made = Comparison.objects.filter(batch=trial.batch)
    assert made.count() == 26
    assert set(made.values_list("origin", "overlap", "round")) == {("trial", 1, trial.round_id)}
    assert Slot.objects.filter(comparison__in=made).count() == 26
    assert set(Slot.objects.filter(comparison__in=made).values_list("priority", flat=True)) == {-10}
    first = trials.places_of(trial, trial.candidate_id).values()
    assert 0 < sum(first) < 26  # neither version always stands first


def test_judgments_are_counted_for_the_candidate_whatever_the_order_they_were_shown_in(
    project, versions, admin, labeler, tmp_path
):
    trial = collected(order(project, versions, admin), tmp_path)
    say(trial, labeler, "WWWLLTBW")
    assert trials.counted(trials.results_of(trial)) == (4, 2, 2)
    assert trials.standing_of(trial).counts.rate == 5 / 8
    assert trials.results_of(trial) == [1, 1, 1, 0, 0, 0.5, 0.5, 1]


def test_a_decided_trial_ends_by_itself_and_hands_out_nothing_more(project, versions, admin, labeler, tmp_path):
    trial = collected(order(project, versions, admin), tmp_path)
    say(trial, labeler, "W" * 5)
    trials.settle_all()
    assert Trial.objects.get().outcome == ""
    say(trial, labeler, "W" * 11)
    held = claim_slot(project=project, labeler=labeler)
    trials.settle_all()
    trials.settle_all()
    trial = Trial.objects.get()
    assert (trial.outcome, trial.ended_by) == ("candidate", None)
    assert trial.counts["wins"] == 16 and trial.counts["low"] > 0.5
    states = list(Slot.objects.filter(comparison__batch=trial.batch).values_list("state", flat=True))
    assert (states.count("done"), states.count("leased"), states.count("open")) == (16, 1, 0)
    assert held.comparison.batch == trial.batch


def test_a_trial_without_anything_left_to_judge_ends_undecided(project, versions, admin, labeler, tmp_path):
    trial = collected(order(project, versions, admin), tmp_path)
    trials.settle_all()
    assert Trial.objects.get().outcome == ""
    say(trial, labeler, "WL" * 15)
    trials.settle_all()
    assert Trial.objects.get().outcome == "undecided"


def test_a_round_that_failed_ends_its_trial(project, versions, admin):
    trial = order(project, versions, admin)
    trials.settle_all()
    assert Trial.objects.get().outcome == ""
    Round.objects.filter(pk=trial.round_id).update(state="failed")
    trials.settle_all()
    assert Trial.objects.get().outcome == "undecided"


def test_what_cannot_be_compared_is_refused(project, versions, admin, tmp_path):
    with pytest.raises(TrialRefused, match="answers already"):
        order_trial(project=project, candidate=versions[1], by=admin)
    with pytest.raises(TrialRefused, match="no policy of this project"):
        order_trial(project=project, candidate=make_passing(make_project(), tmp_path), by=admin)
    with pytest.raises(TrialRefused, match="No prompt is left"):
        order(project, versions, admin, source="fresh")
    order(project, versions, admin)
    Round.objects.update(state="done")
    with pytest.raises(TrialRefused, match="already"):
        order(project, versions, admin)
    ProtocolVersion.objects.create(project=project, number=2, definition={"form": "demonstration"})
    with pytest.raises(TrialRefused, match="does not ask about two answers"):
        order(project, versions, admin)


def test_the_same_prompt_is_not_used_twice_for_the_same_two(project, versions, admin, tmp_path):
    trial = collected(order(project, versions, admin, difference=0.2), tmp_path, equal=3)
    trials.end(trial, outcome="undecided", by=admin)
    left = trial_orders.eligible_prompts(project, *versions, "held-out")
    assert len(left) == 3  # where both said the same there is no comparison


def test_hours_are_the_projects_own_pace_and_ties_its_own_share(project, versions, labeler, admin, tmp_path):
    about = {"project": project, "candidate": versions[0], "champion": versions[1], "source": "held-out"}
    asked = {"difference": 0.03, "alpha": 0.05, "power": 0.8}
    assert trial_orders.estimate(**about, **asked).hours is None
    WorkDay.objects.create(project=project, labeler=labeler, day=timezone.now(), judged=10, active_seconds=780)
    found = trial_orders.estimate(**about, **asked)
    assert (found.needed, found.seconds) == (2181, 78)
    assert found.hours == pytest.approx(2181 * 78 / 3600)  # 47 hours
    assert found.usual < found.needed < found.most
    assert found.visible == pytest.approx(0.03 * (found.most / 30) ** 0.5, rel=0.01)

    trial = collected(order(project, versions, admin), tmp_path)
    say(trial, labeler, "WTLB")
    assert trial_orders.tie_share(project) == 0.5
    assert trial_orders.estimate(**about, **asked).needed == 1091


def test_the_gate_takes_what_people_said_for_evidence(project, versions, admin, labeler, tmp_path):
    make_gate(project, {"key": "human_win_rate", "limit": 0.5, "minimum": 10})
    candidate, _ = versions
    assert decide(candidate).verdict == "no-evidence"
    trial = collected(order(project, versions, admin), tmp_path)
    say(trial, labeler, "W" * 4)
    assert "4 rows, and at least 10" in decide(candidate).reasons[0]
    say(trial, labeler, "W" * 14)
    assert decide(candidate).verdict == "pass"

    other = make_passing(project, tmp_path)
    Round.objects.update(state="done")
    trial = collected(order(project, (other, versions[1]), admin), tmp_path)
    trials.end(Trial.objects.first(), outcome="undecided")
    assert decide(other).verdict == "no-evidence"


@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("trial_asks_for_something_possible", {"difference": 0}),
        ("trial_has_an_outcome_when_it_ends", {"outcome": "even"}),
        ("trial_has_an_outcome_when_it_ends", {"ended_at": timezone.now()}),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused_by_the_database(project, versions, admin, constraint, change):
    trial = order(project, versions, admin)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Trial.objects.filter(pk=trial.pk).update(**change)
    with pytest.raises(IntegrityError, match="trial_compares_two_versions"), transaction.atomic():
        Trial.objects.filter(pk=trial.pk).update(champion=trial.candidate)


@pytest.fixture
def signed_in(client, admin):
    client.force_login(admin)
    return client


def test_the_page_calculates_and_orders_and_shows_what_people_said(
    signed_in, project, versions, labeler, tmp_path
):
    WorkDay.objects.create(project=project, labeler=labeler, day=timezone.now(), judged=10, active_seconds=780)
    path = f"/p/arguments/versions/{versions[0].name}/trial/"
    said = text_of(signed_in.get(path))
    assert "To see 3 points you need about 2,181 comparisons , about 47 labeler-hours" in said
    assert "There are 30 such prompts left" in said
    asked = {"source": "held-out", "points": 20, "alpha": 0.05, "power": 0.8, "temperature": 1, "max_new_tokens": 8}
    assert "you need about 50 comparisons" in text_of(signed_in.post(path, asked))
    assert not Trial.objects.exists()
    assert signed_in.post(path, asked | {"points": 90}).status_code == 422
    ordered = signed_in.post(path, asked | {"order": "1"})
    trial = Trial.objects.get()
    assert ordered.url == f"/p/arguments/trials/{trial.pk}/"
    assert "The answers are being sampled" in text_of(signed_in.get(ordered.url))
    assert signed_in.post(path, asked | {"order": "1"}).status_code == 409

    say(collected(trial, tmp_path, equal=2), labeler, "WWLT")
    said = text_of(signed_in.get(ordered.url))
    assert "62.5 % win rate of the candidate" in said
    assert "2 won, 1 lost, 1 tied, of 28 comparisons" in said and "Not decided yet" in said
    assert f"/trials/{trial.pk}/" in signed_in.get(f"/p/arguments/versions/{versions[0].name}/").content.decode()
    signed_in.post(f"{ordered.url}end/")
    assert "ended undecided" in text_of(signed_in.get(ordered.url))
    assert Trial.objects.get().ended_by.username == "ada"


def test_strangers_find_no_trial_and_labelers_and_researchers_stay_in_their_role(client, project, versions, admin):
    trial = order(project, versions, admin)
    new = f"/p/arguments/versions/{versions[0].name}/trial/"
    page, end = f"/p/arguments/trials/{trial.pk}/", f"/p/arguments/trials/{trial.pk}/end/"
    assert client.get(page).status_code == 302
    for role, seen, ordered in ((None, 404, 404), ("labeler", 403, 403), ("researcher", 200, 403)):
        client.force_login(user := make_user())
        if role:
            add_member(project, user, role)
        assert client.get(page).status_code == seen
        assert client.get(new).status_code == client.post(end).status_code == ordered
    add_member(elsewhere := make_project(), stranger := make_user(), "admin")
    client.force_login(stranger)
    assert client.get(f"/p/{elsewhere.slug}/trials/{trial.pk}/").status_code == 404
    assert Trial.objects.get().outcome == ""
