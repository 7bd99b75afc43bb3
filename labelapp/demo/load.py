"""The demo project: real people's judgments of real arguments, people to sign in as, a small policy to begin with."""

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from django.conf import settings
from django.db import transaction

from alignment.manifest import file_sha256, verify
from labelapp.datasets.actions import freeze_snapshot, import_records
from labelapp.datasets.formats import default_group
from labelapp.models import (
    GuidelineVersion,
    Membership,
    Project,
    Prompt,
    ProtocolVersion,
    User,
    Version,
    message_hash,
)
from labelapp.rounds.promote import found_alias

HERE = Path(__file__).parent
BASE_MODEL = HERE / "base_model"
SLUG = "convincing-arguments"
TEST_SHARE = 0.37  # splits the 16 debates into 11 for training and 5 for testing, as the base model's recipe did
OPEN_OVERLAP = 2
RANKINGS = {0: [[0, 1]], 1: [[0], [1]], 2: [[1], [0]]}
PROTOCOL = {"question": "Which argument is more convincing?", "max_strength": 3, "tie": True, "both_bad": True}

# (role, user name, password). Everyone can read these, so they exist only where a demo was asked for.
LOGINS = [
    ("labeler", "labeler", "demo-labeler"),
    ("labeler", "labeler2", "demo-labeler2"),
    ("reviewer", "reviewer", "demo-reviewer"),
    ("researcher", "researcher", "demo-researcher"),
    ("admin", "admin", "demo-admin"),
]


class DemoRefused(Exception):
    """The demo brings accounts whose passwords are public; it is not loaded into an installation in production."""


def load_demo() -> Project:
    """The demo project, made where it is not there yet; loading it again adds only what is missing.

    Raises DemoRefused in production.
    """
    if settings.PRODUCTION:
        raise DemoRefused("the demo's passwords are public; load it with LABELAPP_LOCAL=1, never in production")
    project = _project()
    people = _people(project)
    if not project.snapshots.exists():
        import_records(project=project, records=judged_records(), source="UKPConvArg1")
        import_records(project=project, records=open_records(), source="UKPConvArg1, open")
        _fresh_prompts(project)
        freeze_snapshot(project=project, by=people["admin"])
    if (BASE_MODEL / "manifest.json").exists():
        _base_model(project, people["admin"])
    return project


@transaction.atomic
def _project() -> Project:
    project, made = Project.objects.get_or_create(
        slug=SLUG,
        defaults={
            "name": "Convincing arguments",
            "description": "Which of two arguments is more convincing? 16 debates of the web, judged by a crowd.",
            "test_share": TEST_SHARE,
            "overlap": OPEN_OVERLAP,
        },
    )
    if made:
        GuidelineVersion.objects.create(project=project, number=1, text=(HERE / "guidelines.md").read_text())
        ProtocolVersion.objects.create(project=project, number=1, definition=PROTOCOL)
    return project


def _people(project: Project) -> dict[str, User]:
    """The demo's people by user name. An account that exists keeps its password."""
    people = {}
    for role, username, password in LOGINS:
        person = User.objects.filter(username=username).first()
        people[username] = person or User.objects.create_user(username, password=password)
        Membership.objects.get_or_create(project=project, user=people[username], defaults={"role": role})
    return people


@cache
def _lines() -> list[dict]:
    with gzip.open(HERE / "arguments.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _record(pair: list[int]) -> dict:
    """The pair as an import row: its prompt, its group (the debate) and its two arguments."""
    arguments = _arguments()
    debate = _debates()[arguments[pair[0]]["stance"]]
    return {
        "prompt": debate["prompt"],
        "group": debate["debate"],
        "completions": [arguments[number]["text"] for number in pair],
        "authors": ["human", "human"],
    }


@cache
def _debates() -> dict[str, dict]:
    return json.loads((HERE / "debates.json").read_text())


@cache
def _arguments() -> dict[int, dict]:
    return {line["argument"]: line for line in _lines() if "argument" in line}


def judged_records() -> Iterator[dict]:
    """About 10,000 votes on 2,000 pairs, a row a vote. "Equal" is a tie; nobody said how clearly."""
    for line in _lines():
        if "pair" in line:
            record = _record(line["pair"])
            for worker, answer in line["votes"].items():
                yield record | {"annotator": worker, "ranking": RANKINGS[answer]}


def open_records() -> Iterator[dict]:
    """200 further pairs of gentle debates for people here to judge."""
    return (_record(line["open"]) | {"overlap": OPEN_OVERLAP} for line in _lines() if "open" in line)


def _fresh_prompts(project: Project) -> None:
    """Topics without any completion, for the policy to answer; each its own group."""
    turns = [[{"role": "user", "content": topic}] for topic in topics()]
    Prompt.objects.bulk_create(
        [
            Prompt(
                project=project,
                messages=messages,
                content_hash=message_hash(messages),
                group=default_group(messages),
                source="topics.txt",
                fresh=True,
            )
            for messages in turns
        ],
        ignore_conflicts=True,
    )


def topics() -> list[str]:
    return (HERE / "topics.txt").read_text().splitlines()


@transaction.atomic
def _base_model(project: Project, admin: User) -> None:
    """The policy that a newcomer's first round starts from, promoted as epoch 1 of the alias."""
    digest = file_sha256(BASE_MODEL / "manifest.json")
    verify(BASE_MODEL, digest)
    version, _ = Version.objects.get_or_create(
        project=project,
        name=f"policy-base-{digest[:8]}",
        defaults={
            "kind": Version.Kind.POLICY,
            "path": str(BASE_MODEL),
            "digest": digest,
            "card": _card(),
        },
    )
    reason = "The demo's base model, which nothing was compared with."
    found_alias(project=project, version=version, by=admin, reason=reason)


def _card() -> dict:
    card = BASE_MODEL / "card.json"
    return json.loads(card.read_text()) if card.exists() else {}
