"""Gold: items with a known answer among the others."""

import re
from uuid import uuid4

import pytest

from labelapp.labeling.actions import undo_last
from labelapp.labeling.quality.gold import (
    Outcome,
    gold_accuracy,
    hand_gold,
    make_gold,
    remove_gold,
    unseen_gold,
)
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import BadGold
from labelapp.labeling.skips import skip_item
from labelapp.models import Judgment, Membership, Project, Skip, Slot
from tests.factories import make_comparison, make_project
from tests.labeling.conftest import answer, claim_and_answer, shown
from tests.labeling.test_page import HTMX, form_of, text

BOTH = {"both_bad": True}
PAGE = "/p/honest/label/"


@pytest.fixture
def golden(labeler):
    """A project where each item of work brings a gold one: half of all items are gold."""
    project = make_project("honest", labeler=labeler)
    Project.objects.filter(pk=project.pk).update(gold_share=0.5)
    project.refresh_from_db()
    return project


def gold(project, **about):
    comparison = make_comparison(project, slots=0)
    make_gold(comparison, **{"gold": [[0], [1]]} | about)
    comparison.refresh_from_db()
    return comparison


def for_position(slot, position):
    """The answer "much better" for this position."""
    return {"strength": -3 if slot.display_order[0] == position else 3}


def test_an_item_of_work_brings_a_gold_one_which_nobody_else_gets(golden, labeler):
    known = gold(golden)
    make_comparison(golden)
    claim_and_answer(golden, labeler, project=golden, strength=1)

    slot = claim_slot(project=golden, labeler=labeler)
    assert (slot.comparison, slot.purpose, slot.reserved_for) == (known, "gold", labeler)


def test_without_a_share_there_is_no_gold(project, labeler):
    gold(project)
    make_comparison(project)
    claim_and_answer(project, labeler, project=project, strength=1)
    assert claim_slot(project=project, labeler=labeler) is None


def test_nobody_gets_gold_twice_nor_what_they_have_seen(golden, labeler, join):
    known = gold(golden)
    assert hand_gold(golden, labeler.pk)
    assert hand_gold(golden, labeler.pk) is None
    slot = claim_slot(project=golden, labeler=labeler)
    skip_item(project=golden, claim=shown(slot), labeler=labeler, reason="unsure")
    assert hand_gold(golden, labeler.pk) is None
    slot.refresh_from_db()
    assert slot.state == "closed"
    Skip.objects.get(comparison=known)


def test_gold_asks_for_the_tags_that_the_item_requires(golden, labeler):
    known = gold(golden)
    known.requires = ["de"]
    known.save()
    assert hand_gold(golden, labeler.pk) is None
    Membership.objects.update(tags=["de", "en"])
    assert hand_gold(golden, labeler.pk).comparison == known


def test_marking_keeps_the_votes_and_closes_the_open_places_until_the_mark_goes(golden, labeler, join):
    comparison = make_comparison(golden, overlap=2)
    vote = claim_and_answer(golden, labeler, strength=1)
    make_gold(comparison, gold=BOTH, explanation=" Neither answers. ")
    comparison.refresh_from_db()
    assert (comparison.gold, comparison.explanation) == (BOTH, "Neither answers.")
    assert Judgment.objects.standing().get() == vote
    other = Membership.objects.create(project=golden, user=join(), role="labeler").user
    assert claim_slot(project=golden, labeler=other) is None
    assert not unseen_gold(golden.memberships.get(user=labeler)).exists()
    handed = hand_gold(golden, other.pk)

    remove_gold(comparison)
    comparison.refresh_from_db()
    handed.refresh_from_db()
    assert (comparison.gold, comparison.explanation, handed.state) == (None, "", "closed")
    assert claim_slot(project=golden, labeler=other).purpose == ""


def test_a_known_answer_must_be_one_that_somebody_could_give(golden):
    comparison = make_comparison(golden)
    with pytest.raises(BadGold, match="positions 0 to 1"):
        make_gold(comparison, gold=[[0], [1], [2]])


def test_the_outcome_is_told_where_there_is_an_explanation(golden, labeler):
    for right, explanation in ((True, "Look at the sources."), (False, "B is older."), (True, "")):
        gold(golden, explanation=explanation)
        slot = hand_gold(golden, labeler.pk)
        judgment = answer(claim_slot(project=golden, labeler=labeler), labeler, **for_position(slot, 0 if right else 1))
        assert judgment.outcome == (Outcome(right, explanation) if explanation else None)


def test_accuracy_counts_the_first_answers(golden, labeler):
    for position in (0, 0, 1):
        gold(golden, explanation="So it is.")
        slot = hand_gold(golden, labeler.pk)
        answer(claim_slot(project=golden, labeler=labeler), labeler, **for_position(slot, position))
    assert gold_accuracy(golden, labeler) == gold_accuracy(golden) == (2, 3)

    back = undo_last(project=golden, labeler=labeler)
    answer(back, labeler, **for_position(back, 0))  # after the explanation everybody knows
    assert gold_accuracy(golden, labeler) == (2, 3)


def test_nothing_on_the_page_tells_gold_from_work_before_the_answer(client, golden, labeler):
    make_comparison(golden)
    client.force_login(labeler)
    work = client.get(PAGE).content.decode()
    claim_and_answer(golden, labeler, strength=1)
    gold(golden, explanation="The secret reason.")
    hand_gold(golden, labeler.pk)
    page = client.get(PAGE).content.decode()
    assert Slot.objects.filter(purpose="gold", state="leased").exists()
    assert "secret reason" not in page
    for word in ("gold", "known", "quiz"):
        assert page.lower().count(word) == work.lower().count(word)


def test_the_page_explains_after_the_answer(client, golden, labeler):
    gold(golden, explanation="Because <i>this</i>.")
    slot = hand_gold(golden, labeler.pk)
    client.force_login(labeler)
    form = form_of(client.get(PAGE)) | {"answer": str(for_position(slot, 0)["strength"]), "submission_id": uuid4()}
    page = client.post(PAGE, form, headers=HTMX)
    assert "Because &lt;i&gt;this&lt;/i&gt;." in page.content.decode()
    assert "you found it" in text(page)


def test_an_explanation_is_markdown_and_nothing_else(client, golden, labeler):
    evil = "**Sources** count.\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![x](http://evil.example/x.png)"
    client.force_login(labeler)
    for headers in (HTMX, {}):  # on the page itself, and without script after a redirect
        gold(golden, explanation=evil)
        slot = hand_gold(golden, labeler.pk)
        form = form_of(client.get(PAGE)) | {"answer": str(for_position(slot, 0)["strength"]), "submission_id": uuid4()}
        page = client.post(PAGE, form, headers=headers, follow=True).text
        told = re.search(r'<div (id="outcome" )?class="notice [^>]*>.*?</div></div>', page, re.DOTALL)[0]
        assert "<strong>Sources</strong>" in told and "&lt;script&gt;" in told
        assert not re.search(r"<script|<img|href=.javascript", told)


def test_without_javascript_the_explanation_is_on_the_page_after_the_redirect(client, golden, labeler):
    gold(golden, explanation="Because of this.")
    slot = hand_gold(golden, labeler.pk)
    client.force_login(labeler)
    form = form_of(client.get(PAGE)) | {"answer": str(for_position(slot, 1)["strength"])}
    assert client.post(PAGE, form).status_code == 303
    page = text(client.get(PAGE))
    assert "it was another one" in page and "Because of this." in page
