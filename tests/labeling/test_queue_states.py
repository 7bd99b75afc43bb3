"""Whatever people and admins do to slots and judgments, in whatever order: what must hold holds."""

import inspect
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from labelapp.labeling.actions import judge, revisable, revise, undo_last
from labelapp.labeling.answers import Answer
from labelapp.labeling.claims import Claim
from labelapp.labeling.drafts import save_draft
from labelapp.labeling.overview.people import pause, resume
from labelapp.labeling.quality.reask import reask, return_to_labeler
from labelapp.labeling.quality.repeats import plan_repeat
from labelapp.labeling.queue import claim_slot, extend_lease
from labelapp.labeling.refusals import ChangedBody, Refusal
from labelapp.labeling.skips import AGAIN, skip_item
from labelapp.models import Draft, Judgment, Membership, Project, Skip, Slot, WorkDay
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.labeling.conftest import shown

PEOPLE, COMPARISONS = 3, 2
WEIGHTS = {
    "claim_and_submit": 5, "claim": 4, "submit": 3, "send_again": 1, "send_changed": 1, "undo": 3, "revise": 1,
    "skip": 2, "draft": 2, "heartbeat": 1, "lease_runs_out": 3, "ask_again": 3, "pause": 1, "repeat": 1, "more_work": 2,
}  # fmt: skip
ACTIONS = [action for action, weight in WEIGHTS.items() for _ in range(weight)]


@dataclass
class Tab:
    """A form that somebody has before them, however old."""

    labeler: int
    claim: Claim
    sent: dict[UUID, int | None] = field(default_factory=dict)

    def answer(self, position: int | None) -> Answer:
        """Better is what has this position, wherever it was shown; None is a tie."""
        side = 0 if position is None else 1 if self.claim.display_order[1] == position else -1
        return Answer(strength=side)


class Queue(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.project = make_project(overlap=2)
        Project.objects.filter(pk=self.project.pk).update(max_overlap=3)
        self.project.refresh_from_db()
        self.people = [make_user() for _ in range(PEOPLE)]
        for person in self.people:
            membership = add_member(self.project, person, "labeler")
            Membership.objects.filter(pk=membership.pk).update(shuffle_start=-(2**31))
        for _ in range(COMPARISONS):
            make_comparison(self.project)
        self.acknowledged: dict[int, str] = {}
        self.closed: Counter = Counter()
        self.tabs: list[Tab] = []

    def teardown(self):
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @rule(
        action=st.sampled_from(ACTIONS), labeler=st.integers(0, PEOPLE - 1), number=st.integers(0, 99),
        position=st.sampled_from([0, 1, None]), flag=st.booleans(),
    )  # fmt: skip
    def act(self, action, **drawn):
        """One rule, for hypothesis leaves out some of many in each example, and a queue without claims does nothing."""
        method = getattr(self, action)
        wanted = inspect.signature(method).parameters
        if "tab" in wanted and not self.tabs:
            return
        drawn["tab"] = self.tabs and self.tabs[-1 - drawn["number"] % len(self.tabs)]
        method(**{name: drawn[name] for name in wanted})

    # What labelers do

    def claim(self, labeler, flag):
        """Open the page, or claim the next item while one is in hand."""
        held = Slot.objects.filter(labeler=self.people[labeler], state="leased").values_list("pk", flat=True)
        slot = claim_slot(project=self.project, labeler=self.people[labeler], holding=list(held) if flag else ())
        if slot is not None:
            assert slot.state == "leased" and slot.labeler == self.people[labeler]
            self.check_unseen(slot)
            self.tabs.append(Tab(labeler, shown(slot)))

    def check_unseen(self, slot):
        """Work that somebody has judged or skipped is not handed to them, but where they have undone it."""
        undone = slot.judgments.filter(labeler=slot.labeler, withdrawn=True, replaced_by=None).exists()
        if slot.purpose == Slot.Purpose.WORK and not undone:
            for rows in (Judgment.objects, Skip.objects):
                assert not rows.filter(comparison=slot.comparison, labeler=slot.labeler).exists()

    def submit(self, tab, position):
        """Answer, in time or late, once or once more."""
        submission = uuid4()
        if self.send(tab, submission, position):
            tab.sent[submission] = position

    def claim_and_submit(self, labeler, position):
        """What usually happens."""
        before = len(self.tabs)
        self.claim(labeler, False)
        if len(self.tabs) > before:
            self.submit(self.tabs[-1], position)

    def send_again(self, tab):
        """A replay finds the stored answer."""
        for submission, position in tab.sent.items():
            before = Judgment.objects.count()
            assert self.send(tab, submission, position)
            assert Judgment.objects.count() == before

    def send_changed(self, tab):
        for submission, position in tab.sent.items():
            with pytest.raises(ChangedBody):
                self.say(tab, submission, 0 if position == 1 else 1)

    def send(self, tab, submission, position) -> Judgment | None:
        try:
            judgment = self.say(tab, submission, position)
        except Refusal:
            return None
        if judgment.pk not in self.acknowledged and not judgment.surplus:
            self.closed[tab.labeler] += 1
        self.acknowledged[judgment.pk] = judgment.body_hash
        return judgment

    def say(self, tab, submission, position) -> Judgment:
        return judge(
            claim=tab.claim, labeler=self.people[tab.labeler], submission_id=submission, answer=tab.answer(position),
            project=self.project,
        )  # fmt: skip

    def undo(self, labeler):
        with suppress(Refusal):
            if slot := undo_last(project=self.project, labeler=self.people[labeler]):
                self.closed[labeler] -= 1
                self.tabs.append(Tab(labeler, shown(slot)))

    def revise(self, labeler, number, position):
        rows = revisable(project=self.project, labeler=self.people[labeler])
        if rows:
            about = {"judgment_id": rows[number % len(rows)].pk, "submission_id": uuid4()}
            said = {"project": self.project, "labeler": self.people[labeler], "answer": Answer(strength=position or 0)}
            new = revise(**said, **about)
            self.acknowledged[new.pk] = new.body_hash

    def skip(self, tab):
        with suppress(Refusal):
            skip_item(project=self.project, claim=tab.claim, labeler=self.people[tab.labeler], reason="unsure")

    def draft(self, tab, number):
        """A draft is kept while the item is in hand, and never goes back."""
        mine = Draft.objects.filter(comparison=tab.claim.comparison_id, labeler=self.people[tab.labeler])
        before = mine.first()
        said = {"claim": tab.claim, "labeler": self.people[tab.labeler], "revision": number, "body": {"n": number}}
        kept = save_draft(**said)
        assert not save_draft(**said)  # the same revision is no newer one
        assert not kept or mine.get().revision == number > (before.revision if before else -1)

    def heartbeat(self, tab):
        beat = {"labeler": self.people[tab.labeler], "claim_token": tab.claim.claim_token}
        held = extend_lease(slot_id=tab.claim.slot_id, **beat)
        slot = Slot.objects.get(pk=tab.claim.slot_id)
        assert held is (slot.state == "leased" and slot.claim_token == tab.claim.claim_token)

    def lease_runs_out(self, tab):
        past = timezone.now() - timedelta(seconds=1)
        Slot.objects.filter(pk=tab.claim.slot_id, state="leased").update(lease_until=past)

    # What admins and the queue do

    def ask_again(self, number, flag):
        standing = list(Judgment.objects.standing().order_by("-pk"))
        if standing:
            judgment = standing[number % len(standing)]
            with suppress(Refusal):
                return_to_labeler(judgment, "Look again.") if flag else reask(judgments=[judgment], note="Why.")

    def pause(self, flag):
        """One of them, so that the others go on."""
        membership = Membership.objects.get(user=self.people[0])
        pause(membership, "Too fast.") if flag else resume(membership)

    def repeat(self, number):
        work = list(Judgment.objects.standing().filter(slot__purpose="", surplus=False).order_by("pk"))
        if work:
            judgment = work[number % len(work)]
            judgment.project_id = self.project.pk
            slot = plan_repeat(judgment)
            Slot.objects.filter(pk=slot.pk, state="open").update(not_before=timezone.now())

    def more_work(self):
        make_comparison(self.project)

    # What must hold

    @invariant()
    def nobody_has_two_standing_answers_to_one_comparison(self):
        standing = list(Judgment.objects.standing().values_list("comparison", "labeler"))
        assert len(standing) == len(set(standing))

    @invariant()
    def there_are_never_more_answers_than_places(self):
        """Each place has one standing answer at most that is not surplus, and its state fits."""
        answered = Counter(Judgment.objects.standing().filter(surplus=False).values_list("slot", "labeler"))
        by_slot = Counter(slot for slot, _ in answered)
        assert not by_slot or max(by_slot.values()) == 1
        for slot in Slot.objects.all():
            if slot.state == "done":
                assert answered[slot.pk, slot.labeler_id] == 1
            elif by_slot[slot.pk]:
                assert slot.purpose in AGAIN and answered[slot.pk, slot.reserved_for_id] == 1

    @invariant()
    def no_comparison_has_more_places_than_the_maximum(self):
        places = Counter(Slot.objects.exclude(purpose="repeat").values_list("comparison", flat=True))
        assert max(places.values()) <= self.project.max_overlap

    @invariant()
    def work_days_count_what_was_closed(self):
        counted = dict(WorkDay.objects.values_list("labeler").annotate(Sum("judged")))
        assert {person.pk: self.closed[n] for n, person in enumerate(self.people) if self.closed[n]} == {
            labeler: judged for labeler, judged in counted.items() if judged
        }

    @invariant()
    def nothing_acknowledged_disappears(self):
        assert dict(Judgment.objects.filter(pk__in=self.acknowledged).values_list("pk", "body_hash")) == (
            self.acknowledged
        )

    @invariant()
    def revisions_are_chains_of_one_person_without_forks(self):
        rows = {row.pk: row for row in Judgment.objects.all()}
        replaced = [row.replaces_id for row in rows.values() if row.replaces_id]
        assert len(replaced) == len(set(replaced))
        for row in rows.values():
            if row.replaces_id:
                before = rows[row.replaces_id]
                assert before.pk < row.pk
                assert (before.comparison_id, before.labeler_id) == (row.comparison_id, row.labeler_id)


@pytest.mark.slow
def test_slots_and_judgments_in_any_order(db):
    checks = settings(
        max_examples=25, stateful_step_count=45, derandomize=True, deadline=None, database=None,
        phases=[Phase.generate],  # shrinking takes minutes: add it where something fails
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Queue, settings=checks)
