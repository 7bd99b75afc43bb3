"""Changing many comparisons at once: the filter, the review, what each action does, and what it leaves alone."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from labelapp.datasets import bulk
from labelapp.datasets.bulk import order_change, run_change, run_left_behind
from labelapp.datasets.filters import count_up_to, matching
from labelapp.labeling.quality.gold import make_gold
from labelapp.labeling.queue import claim_slot
from labelapp.models import Batch, BulkChange, Comparison, Judgment, ProtocolVersion, QueueHealth, Skip, Slot
from labelapp.tasks import change_comparisons
from tests.factories import PROTOCOL, add_member, make_comparison, make_project, make_prompt, make_user
from tests.labeling.conftest import claim_and_answer

LIST = "/p/debates/data/comparisons/"
REVIEW, CHANGE, CHANGES = LIST + "review/", LIST + "change/", "/p/debates/data/changes/"


@pytest.fixture
def admin(db):
    return make_user("adm")


@pytest.fixture
def labeler(db):
    return make_user("lab")


@pytest.fixture
def project(admin, labeler):
    return make_project("debates", admin=admin, labeler=labeler)


@pytest.fixture
def web(client, admin, project):
    client.force_login(admin)
    return client


@pytest.fixture
def change(project, admin):
    """Order a change of comparisons, or of all; the row it leaves."""

    def change(action, *rows, expected=None, **values) -> BulkChange:
        picked = {"ids": [row.pk for row in rows]} if rows else {"filter": {}}
        expected = expected if expected is not None else len(rows) or project.comparisons.count()
        return order_change(
            project=project, by=admin, picked=picked, order={"action": action, **values}, expected=expected,
            submission=uuid4(),
        )  # fmt: skip

    return change


def states(comparison) -> list[str]:
    return list(comparison.slots.order_by("number").values_list("state", flat=True))


# Who may


@pytest.mark.parametrize("role", ["labeler", "reviewer", "researcher"])
def test_only_admins_change(client, project, role):
    row = make_comparison(project)
    person = make_user()
    add_member(project, person, role)
    client.force_login(person)
    data = {"scope": "picked", "id": row.pk, "action": "close", "expected": "1", "submission_id": str(uuid4())}
    assert {client.post(url, data).status_code for url in (REVIEW, CHANGE)} == {403}
    assert {client.get(url).status_code for url in (CHANGES, CHANGES + "1/")} == {403}
    assert states(row) == ["open"] and not BulkChange.objects.exists()


def test_a_researcher_filters_and_sees_no_way_to_change(client, project):
    make_comparison(project)
    person = make_user()
    add_member(project, person, "researcher")
    client.force_login(person)
    page = client.get(LIST, {"state": "open"}).content.decode()
    assert "Review the change" not in page and 'type="checkbox"' not in page


def test_a_stranger_learns_nothing(client, project):
    stranger = make_user()
    make_project("elsewhere", admin=stranger)
    client.force_login(stranger)
    assert {client.post(url).status_code for url in (REVIEW, CHANGE)} == {404}
    assert client.get(CHANGES).status_code == 404
    assert Client().post(CHANGE).url.startswith("/accounts/login/")


def test_writes_need_a_token_and_links_do_not_write(admin, project, web):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin)
    assert {strict.post(url).status_code for url in (REVIEW, CHANGE)} == {403}
    assert {web.get(url).status_code for url in (REVIEW, CHANGE)} == {405}


def test_rows_of_other_projects_are_out_of_reach(web, project):
    foreign = make_comparison(make_project("elsewhere"))
    page = web.post(REVIEW, {"scope": "picked", "id": foreign.pk, "action": "close"})
    assert "Nothing matches any more" in page.content.decode()
    data = {"scope": "picked", "id": foreign.pk, "action": "close", "expected": "1", "submission_id": str(uuid4())}
    web.post(CHANGE, data)
    assert states(foreign) == ["open"] and BulkChange.objects.get().state == "refused"
    change = BulkChange.objects.get()
    client, other = Client(), make_user()
    make_project("third", admin=other)
    client.force_login(other)
    assert client.get(f"/p/third/data/changes/{change.pk}/").status_code == 404


# The filter


def found(project, **said) -> set[int]:
    return set(matching(project, said).values_list("pk", flat=True))


def test_each_filter_finds_its_own(project, labeler):
    batch = Batch.objects.create(project=project, name="b")
    plain = make_comparison(project)
    other = make_comparison(project, prompt=make_prompt(project, 'Say "héllo" to 50% of them'), batch=batch)
    tagged = make_comparison(project, requires=["german"], origin="active")
    newer = make_comparison(project)
    version = ProtocolVersion.objects.create(project=project, number=2, definition=PROTOCOL)
    Comparison.objects.filter(pk=newer.pk).update(protocol=version)
    Skip.objects.create(project=project, comparison=plain, labeler=labeler, reason="unclear")
    for _ in range(3):
        Skip.objects.create(project=project, comparison=tagged, labeler=make_user(), reason="broken")
    make_comparison(make_project("elsewhere"))
    everything = {plain.pk, other.pk, tagged.pk, newer.pk}
    assert found(project) == everything
    assert found(project, batch=str(batch.pk)) == {other.pk} and found(project, batch="none") == everything - {other.pk}
    assert found(project, tag="German") == {tagged.pk} and found(project, origin="active") == {tagged.pk}
    assert found(project, protocol="2") == {newer.pk}
    assert found(project, skipped="any") == {plain.pk, tagged.pk} and found(project, skipped="many") == {tagged.pk}
    assert found(project, skipped="unclear") == {plain.pk} == found(project, by="lab")
    assert found(project, by="lab", skipped="broken") == set()
    assert found(project, text='"HÉLLO" to 50%') == {other.pk} and found(project, text="%") == {other.pk}
    assert found(project, text="argue", skipped="any") == {plain.pk, tagged.pk}


def test_states_are_what_is_left_to_do(project, labeler):
    open_, held, done, closed = (make_comparison(project) for _ in range(4))
    bare = make_comparison(project, slots=0)
    done.slots.update(state="done", labeler=labeler)
    closed.slots.update(state="closed")
    later = timezone.now() + timedelta(minutes=5)
    held.slots.update(state="leased", labeler=labeler, lease_until=later, claim_token=uuid4())
    for state, row in zip(("open", "leased", "done", "closed", "none"), (open_, held, done, closed, bare), strict=True):
        assert found(project, state=state) == {row.pk}, state


def test_counting_ends_at_the_most(project):
    for _ in range(3):
        make_comparison(project)
    assert (count_up_to(project.comparisons.all(), 3), count_up_to(project.comparisons.all(), 2)) == (3, None)


def test_the_list_keeps_the_filter_on_older_pages_and_says_how_many(web, project, monkeypatch):
    monkeypatch.setattr("labelapp.datasets.row_views.PAGE", 2)
    for _ in range(3):
        make_comparison(project, origin="active")
    make_comparison(project)
    page = web.get(LIST, {"origin": "active"})
    assert "all 3 that match the filter" in page.content.decode()
    assert f"?origin=active&amp;before={page.context['next']}" in page.content.decode()
    assert len(web.get(LIST, {"origin": "active", "before": page.context["next"]}).context["rows"]) == 1


@pytest.mark.parametrize("said", [{"batch": "999"}, {"skipped": "nobody"}, {"protocol": "x"}, {"origin": "moon"}])
def test_an_unknown_filter_is_refused_and_lists_nothing(web, project, said):
    make_comparison(project)
    page = web.get(LIST, said)
    assert page.status_code == 422 and not page.context["rows"]
    refused = web.post(REVIEW, {"scope": "all", "action": "close", **said})
    assert refused.status_code == 422 and "Nothing was changed" in refused.content.decode()


# Review and confirm


def test_the_review_says_what_would_change_and_the_confirmation_does_it(web, project):
    rows = [make_comparison(project, origin="active") for _ in range(2)]
    rest = make_comparison(project)
    asked = {"scope": "all", "origin": "active", "action": "priority", "priority": "-5"}
    page = web.post(REVIEW, asked).content.decode()
    assert "Change 2 comparisons?" in page and "2 open places" in page
    assert set(Slot.objects.values_list("priority", flat=True)) == {0}
    done = web.post(CHANGE, {**asked, "expected": "2", "submission_id": str(uuid4())}, follow=True)
    assert "Priority -5: 2 places." in done.content.decode()
    assert [row.slots.get().priority for row in (*rows, rest)] == [-5, -5, 0]
    assert "Set the priority to -5" in web.get(CHANGES).content.decode()


def test_a_second_click_changes_nothing_more(web, project):
    make_comparison(project)
    data = {"scope": "all", "action": "batch", "new": "first", "expected": "1", "submission_id": str(uuid4())}
    assert web.post(CHANGE, data).url == web.post(CHANGE, data).url
    assert (Batch.objects.count(), BulkChange.objects.count()) == (1, 1)


def test_a_list_that_changed_meanwhile_is_refused(web, project):
    make_comparison(project)
    data = {"scope": "all", "action": "close", "expected": "1", "submission_id": str(uuid4())}
    late = make_comparison(project)
    page = web.post(CHANGE, data, follow=True).content.decode()
    assert "2 comparisons match now, not 1 as confirmed" in page and states(late) == ["open"]


@pytest.mark.parametrize(
    "bad",
    [{"action": "priority"}, {"action": "overlap", "overlap": "0"}, {"action": "reask"}, {"action": "fly"}, {},
     {"action": "tags", "tags": "x" * 41}, {"action": "priority", "priority": "9" * 12},
     {"action": "batch", "deadline": "tomorrow"}],
)  # fmt: skip
def test_an_order_that_cannot_be_is_named_and_asked_for_again(web, project, bad):
    row = make_comparison(project)
    for url in (REVIEW, CHANGE):
        data = {"scope": "picked", "id": row.pk, "expected": "1", "submission_id": str(uuid4()), **bad}
        page = web.post(url, data)
        assert page.status_code == 422 and f'name="id" value="{row.pk}"' in page.content.decode()
    assert not BulkChange.objects.exists()


@pytest.mark.parametrize("bad", [{"id": "x"}, {"id": ""}, {"id": "9" * 30}, {"scope": "picked"}])
def test_nothing_picked_is_said(web, project, bad):
    assert web.post(REVIEW, {"scope": "picked", "action": "close", **bad}).status_code == 422


@pytest.mark.parametrize("bad", [{"expected": ""}, {"expected": "-1"}, {"submission_id": "x"}])
def test_an_incomplete_confirmation_is_refused(web, project, bad):
    row = make_comparison(project)
    data = {"scope": "picked", "id": row.pk, "action": "close", "expected": "1", "submission_id": str(uuid4())}
    assert web.post(CHANGE, data | bad).status_code == 422
    assert states(row) == ["open"]


def test_notes_and_names_stay_text(web, project, labeler):
    make_comparison(project)
    claim_and_answer(project, labeler)
    evil = "<img src=x onerror=alert(1)>"
    asked = {"scope": "all", "action": "reask", "note": evil, "text": ""}
    assert "<img" not in web.post(REVIEW, asked).content.decode()
    confirmed = {**asked, "expected": "1", "submission_id": str(uuid4())}
    assert "<img" not in web.post(CHANGE, confirmed, follow=True).content.decode()
    assert "<img" not in web.get(LIST, {"text": evil}).content.decode()


# What each action does


def test_priority_reaches_what_is_not_answered(project, labeler, change):
    row = make_comparison(project, overlap=2)
    row.slots.filter(number=0).update(state="done", labeler=labeler)
    change("priority", row, priority=7)
    assert list(row.slots.order_by("number").values_list("priority", flat=True)) == [0, 7]


def test_a_new_batch_with_deadline(project, change):
    row, deadline = make_comparison(project), timezone.now() + timedelta(days=3)
    done = change("batch", row, new="urgent", priority=-2, deadline=deadline.isoformat(), batch="")
    batch = Batch.objects.get()
    row.refresh_from_db()
    assert (row.batch, batch.deadline, row.slots.get().priority) == (batch, deadline, -2)
    assert "1 comparisons are in the batch urgent now" in done.outcome
    assert change("batch", make_comparison(project), new="urgent", batch="").state == "refused"
    change("batch", row, batch="", new="")
    row.refresh_from_db()
    assert row.batch is None


def test_a_batch_of_another_project_is_refused(project, change):
    foreign = Batch.objects.create(project=make_project(), name="theirs")
    row = make_comparison(project)
    assert change("batch", row, batch=str(foreign.pk)).state == "refused"


def test_tags_keep_the_item_from_those_who_lack_them(project, labeler, change):
    row = make_comparison(project)
    change("tags", row, tags=["german"])
    assert claim_slot(project=project, labeler=labeler) is None
    project.memberships.filter(user=labeler).update(tags=["german"])
    assert claim_slot(project=project, labeler=labeler)
    row.refresh_from_db()
    assert row.requires == ["german"]


def test_more_overlap_adds_places_in_counter_balanced_order(project, change):
    row, bare = make_comparison(project), make_comparison(project, slots=0)
    three = make_comparison(project, "a", "b", "c")
    change("overlap", row, bare, three, overlap=3)
    orders = list(row.slots.order_by("number").values_list("display_order", flat=True))
    assert orders == [[0, 1], [1, 0], [0, 1]]
    bare_orders = list(bare.slots.order_by("number").values_list("display_order", flat=True))
    assert bare_orders in ([[0, 1], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 0]])
    turned = list(three.slots.order_by("number").values_list("display_order", flat=True))
    assert all(sorted(column) == [0, 1, 2] for column in zip(*turned, strict=True))
    row.refresh_from_db()
    assert row.overlap == 3


def test_less_overlap_closes_only_open_places_and_more_opens_them_again(project, labeler, change):
    row = make_comparison(project, overlap=4)
    claim_and_answer(project, labeler)
    change("overlap", row, overlap=2)
    assert sorted(states(row)) == ["closed", "closed", "done", "open"]
    change("overlap", row, overlap=1)
    assert sorted(states(row)) == ["closed", "closed", "closed", "done"]
    change("overlap", row, overlap=5)
    assert sorted(states(row)) == ["done", "open", "open", "open", "open"]
    assert row.slots.count() == 5


def test_places_close_and_open_again_and_who_works_is_not_disturbed(project, labeler, change):
    row = make_comparison(project, overlap=3)
    slot = claim_slot(project=project, labeler=labeler)
    assert "2 open places closed" in change("close", row).outcome
    assert sorted(states(row)) == ["closed", "closed", "leased"]
    slot.refresh_from_db()
    assert slot.labeler == labeler
    assert "2 closed places opened" in change("reopen", row).outcome
    assert sorted(states(row)) == ["leased", "open", "open"]


def test_gold_is_not_opened_for_everybody(project, change):
    gold = make_comparison(project, overlap=2)
    make_gold(gold, gold=[[0], [1]])
    change("reopen", gold)
    change("overlap", gold, overlap=4)
    assert states(gold) == ["closed", "closed"]


def test_what_was_answered_is_asked_again(project, labeler, change):
    row = make_comparison(project)
    claim_and_answer(project, labeler)
    assert "1 answers are asked again" in change("reask", row, note="New guidelines.").outcome
    slot = claim_slot(project=project, labeler=labeler)
    assert (slot.purpose, slot.note) == ("reask", "New guidelines.")
    assert Judgment.objects.standing().count() == 1
    again = change("reask", row, note="New guidelines.").outcome
    assert again == "No answer is asked again. 1 is with its labeler already."


def test_a_change_has_the_queue_counted_soon(project, change):
    make_comparison(project)
    QueueHealth.objects.create(project=project, mark="7:7:7", count_seconds=9)
    change("close")
    assert QueueHealth.objects.get().mark == ""


# In the background


def test_more_than_ten_thousand_wait_for_a_worker(project, change, monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr(bulk, "COUNTED", 2)
    rung = []
    monkeypatch.setattr(bulk.app, "send_task", lambda name, args: rung.append((name, args)))
    rows = [make_comparison(project) for _ in range(3)]
    with django_capture_on_commit_callbacks(execute=True):
        ordered = change("close")
    assert ordered.state == "waiting" and rung == [("labelapp.tasks.change_comparisons", [ordered.pk])]
    assert states(rows[0]) == ["open"]
    change_comparisons(ordered.pk)
    change_comparisons(ordered.pk)
    ordered.refresh_from_db()
    assert ordered.state == "done" and states(rows[0]) == ["closed"]


def test_a_lost_message_changes_nothing_for_long(project, change, monkeypatch):
    monkeypatch.setattr(bulk, "COUNTED", 0)
    row = make_comparison(project)
    ordered = change("close")
    run_left_behind()
    assert states(row) == ["open"]
    BulkChange.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    run_left_behind()
    ordered.refresh_from_db()
    assert ordered.state == "done" and states(row) == ["closed"]


@pytest.mark.django_db(transaction=True)
def test_two_workers_do_it_once(project, change, monkeypatch):
    monkeypatch.setattr(bulk, "COUNTED", 0)
    make_comparison(project)
    ordered = change("batch", new="once", batch="")

    def work():
        run_change(ordered.pk)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    ordered.refresh_from_db()
    assert ordered.state == "done" and Batch.objects.count() == 1


def test_a_failure_leaves_everything_as_it_was(project, change, monkeypatch):
    row = make_comparison(project)

    def half(project, order):
        Slot.objects.update(priority=99)
        bulk.execute("SELECT 1 / 0")

    monkeypatch.setitem(bulk.ACTIONS, "close", half)
    failed = change("close", row)
    assert failed.state == "failed" and "Nothing was changed: division by zero" in failed.outcome
    assert row.slots.get().priority == 0
