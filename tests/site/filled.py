"""A project that has been through everything, so that every page has something to show."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from django.utils import timezone

from alignment.manifest import split_of
from labelapp.accounts.invitations import invite
from labelapp.accounts.people import set_tags
from labelapp.datasets.actions import freeze_snapshot
from labelapp.datasets.bulk import order_change
from labelapp.labeling.actions import judge
from labelapp.labeling.answers import Answer
from labelapp.labeling.claims import claim_of
from labelapp.labeling.consent import accept_consent
from labelapp.labeling.overview.counting import refresh_all
from labelapp.labeling.overview.people import pause
from labelapp.labeling.protocol import Criterion, Protocol, parse
from labelapp.labeling.queue import claim_slot
from labelapp.models import Judgment, Membership, Project, Review, Round, Skip, Snapshot, User, Version
from labelapp.rounds.promote import deployment_of, promote
from labelapp.rounds.sampling import collect
from labelapp.rounds.saved import save_recipe
from labelapp.rounds.trial_orders import order_trial
from tests.datasets.rows import take
from tests.factories import add_member, make_comparison, make_project, make_prompt, make_user
from tests.gate.rounds import audit, kept, make_gate, make_passing
from tests.gate.test_sampling import answer

SPLITS = {split_of(f"debate {number}", 0.2): f"debate {number}" for number in range(99)}  # a group in each
ROLES = tuple(Membership.Role.values)
TEXT = """Bottled water is **tested** less often than tap water; `1 in 4` bottles is recycled.

| Source | Tests a year |
|---|---|
| tap | 12 |

```python
def price(litres: float) -> float:
    return 0.002 * litres  # a line that is longer than any card on a phone and so must scroll within its block
```

$$\\int_0^\\infty e^{-x^2} dx + \\sum_{i=1}^{n} \\frac{a_i b_i c_i d_i e_i}{f_i} + \\sqrt{x + y + z + u + v + w} = 2$$

So $\\frac{a}{b} < 1$ for every $b > a$."""
PROTOCOL = Protocol(
    criteria=(
        Criterion("clear", "Clear", low_word="unclear", high_word="clear", required=False),
        Criterion("sourced", "Names a source", kind="flag", required=False),
        Criterion("worth", "Worth reading", kind="slider", required=False, help="How gladly you read it."),
    ),
    safety=True,
    span_reasons=("wrong", "unclear"),
    chips=("a better source", "shorter"),
    rewrite="both_bad",
)


@dataclass(frozen=True)
class Filled:
    """What make_filled() made, for addresses."""

    project: Project
    people: dict[str, User]  # by role; "colleague" is a second labeler
    snapshot: Snapshot
    round: Round
    version: Version
    token: str  # of an invitation


def make_filled(
    folder: Path, write: Callable[[str, int], str] = lambda default, longest: default, protocol: Protocol = PROTOCOL
) -> Filled:
    """A project with work done and work left.

    write(default, longest): called for every text that a person or a model wrote; returns what stands there instead.
    """
    people = {role: make_user(write(f"{role} of it", 150)) for role in (*ROLES, "colleague")}
    project = make_project("filled", overlap=2, **{role: people[role] for role in ROLES})
    add_member(project, people["colleague"], "labeler")
    project.review_share = 1.0
    project.name, project.description = write("Convincing arguments", 120), write("Which argument convinces?", 2000)
    project.save()
    project.guideline_versions.create(number=2, text=write("Judge the *argument*.", 20_000))
    _ask_consent(project, write)
    project.protocol_versions.create(number=2, definition=protocol.as_json())
    _add_comparisons(project, write)
    _judge(project, people["labeler"], write, count=6)
    _judge(project, people["colleague"], write, count=5)
    _review(project, people["reviewer"], write)
    _skip(project, people["colleague"], write)
    _manage(project, people["admin"], write)
    _import_rivals(project, write)
    first, version = make_passing(project, folder), make_passing(project, folder, name="policy-two")
    promote(deployment=deployment_of(project), version=first, by=people["admin"], seen_epoch=0)
    for each, mean in ((first, 0.5), (version, 0.6)):
        values = [mean + 0.1 * (number % 3) for number in range(60)]
        audit(each, folder, values=kept("repetition", values))
    make_gate(project, {"key": "win_rate", "limit": 0.5}, {"key": "repetition", "direction": "lower", "margin": 0.02})
    snapshot = freeze_snapshot(project=project, by=people["admin"])
    round = project.rounds.order_by("number").last()
    _compare_blind(project, version, people, folder)
    _, token = invite(project=project, by=people["admin"], role="labeler", expires_in=timedelta(days=1), uses=5)
    return Filled(project, people, snapshot, round, version, token)


def _compare_blind(project: Project, candidate: Version, people: dict[str, User], folder: Path) -> None:
    """A blind comparison with two judgments."""
    trial = order_trial(project=project, candidate=candidate, by=people["admin"], difference=0.2)
    places = range(len(trial.round.recipe["prompts"]))
    texts = {stage.name: {place: [f"{stage.name} {place}"] for place in places} for stage in trial.round.stages.all()}
    collect(answer(trial.round, folder, texts))
    Round.objects.filter(pk=trial.round_id).update(state="done")
    for strength, comparison in zip((2, 0), trial.round.comparisons.all(), strict=False):
        Judgment.objects.create(
            comparison=comparison, slot=comparison.slots.get(), labeler=people["labeler"], submission_id=uuid4(),
            body_hash="", strength=strength, ranking=[[1], [0]] if strength else [[0, 1]], display_order=[0, 1],
            protocol=comparison.protocol,
        )  # fmt: skip


def _ask_consent(project: Project, write) -> None:
    """Two versions of a text, the second of which everybody accepted."""
    for number in (1, 2):
        version = project.consent_versions.create(
            number=number, text=write(f"Your answers are used: {number}.", 20_000)
        )
    project.consent_version = version
    project.save()
    for membership in project.memberships.all():
        accept_consent(membership=membership, version=version)


def _add_comparisons(project: Project, write) -> None:
    for number in range(8):
        group = SPLITS["test" if number % 2 else "train"]
        prompt = make_prompt(project, write(f"Argue that bottle number {number} is banned.", 20_000), group=group)
        make_comparison(project, write(TEXT, 20_000), write(f"Because of {number}.", 20_000), prompt=prompt)
    make_prompt(project, "Nobody has answered this yet.", fresh=True)


def _import_rivals(project: Project, write) -> None:
    """Models from elsewhere, compared elsewhere: two that met on a dozen prompts, and two that met nobody else."""
    for number in range(14):
        authors = ["model-a", "model-b"] if number < 12 else ["model-c", "model-d"]
        texts = [f"## A header\n- **{number}** is an item", f"The answer to {number} in a sentence."]
        ranking = [[[0], [1]], [[1], [0]], [[0, 1]]][number % 3]
        take(project, {
            "prompt": write(f"Rivals: {number}?", 2000), "completions": texts, "authors": authors, "ranking": ranking,
            "group": SPLITS["train"], "annotator": "elsewhere",
            "metadata": {"topic": "bottles" if number % 2 else "other"},
        })  # fmt: skip


def _judge(project: Project, labeler: User, write, *, count: int) -> None:
    for number in range(count):
        slot = claim_slot(project=project, labeler=labeler)
        grade = (1 + number % 3) * (1 if slot.display_order == [0, 1] else -1)
        said = _said(parse(slot.comparison.protocol.definition), grade, write("Clearer, and with a source.", 5000))
        judge(claim=claim(slot), labeler=labeler, submission_id=uuid4(), answer=said, active_seconds=20.0 + number)


def _said(protocol: Protocol, grade: int, rationale: str) -> Answer:
    ratings = {criterion.key: (criterion.values[0], criterion.values[1]) for criterion in protocol.criteria}
    spans = [{"place": 0, "start": None, "end": None, "quote": "tap", "reason": why} for why in protocol.span_reasons]
    return Answer(
        strength=grade, ratings=ratings, safety=("safe", "unsafe") if protocol.safety else (), spans=tuple(spans),
        reasons=protocol.chips, rationale=rationale,
    )  # fmt: skip


def claim(slot):
    guideline = slot.project.guideline_versions.last()
    return claim_of(slot, protocol_id=slot.comparison.protocol_id, guideline_id=guideline.pk)


def _review(project: Project, reviewer: User, write) -> None:
    judgments = list(project.comparisons.first().judgments.model.objects.standing().order_by("pk")[:2])
    Review.objects.create(judgment=judgments[0], reviewer=reviewer, verdict="accepted")
    Review.objects.create(
        judgment=judgments[1], reviewer=reviewer, verdict="returned", comment=write("Look at the source again.", 2000)
    )


def _skip(project: Project, labeler: User, write) -> None:
    comparison = project.comparisons.order_by("pk").last()
    Skip.objects.create(
        project=project, comparison=comparison, labeler=labeler, reason="unclear", comment=write("Which bottle?", 2000)
    )


def _manage(project: Project, admin: User, write) -> None:
    """A batch, people with tags and a pause, an invitation, and the queue counted."""
    project.sampling_plans.create(name=write("Champion and parent", 80), second="same", signal="margin")
    picked = {"ids": [row.pk for row in project.comparisons.order_by("pk")[:2]]}
    for order in ({"action": "batch", "new": write("Urgent", 120)}, {"action": "reask", "note": write("Rules", 1000)}):
        order_change(project=project, by=admin, picked=picked, order=order, expected=2, submission=uuid4())
    project.batches.update(deadline=timezone.now() + timedelta(days=3))
    reviewer = project.memberships.get(role="reviewer")
    set_tags(member=reviewer, tags=["german", "logic"])
    pause(reviewer, write("Please call me.", 500))
    for beta in (0.2, 0.3):
        save_recipe(project=project, name=write("Gentle DPO", 80), preset="reward-dpo", by=admin,
                    changes={"preference.beta": beta}, note=write("Stays near its parent.", 500))  # fmt: skip
    Project.objects.filter(pk=project.pk).update(hourly_cost=24, daily_cap=100)
    invite(project=project, by=admin, role="labeler", expires_in=timedelta(days=1), uses=3, tags=["german"])
    refresh_all()
