"""How standing judgments become the files of a snapshot: in one reading of the database, in constant memory."""

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Prefetch

from alignment.manifest import split_of
from labelapp.datasets.aggregate import RULE, DecidedPair, Vote, decided_pairs, latest_votes
from labelapp.datasets.formats import normalised
from labelapp.datasets.statistics import LabelStatistics
from labelapp.labeling.quality.reask import VOTES
from labelapp.models import Comparison, ComparisonCompletion, Judgment, Project, Prompt

SPLITS = ("train", "test")
CHUNK = 500
GROUP_NAMES_KEPT = 200  # the rows name every group anyway


@dataclass
class Counts:
    """What the files hold, and what was left out."""

    comparisons: int = 0
    judgments_train: int = 0
    judgments_test: int = 0
    pairs_train: int = 0
    pairs_test: int = 0
    undecided_pairs: int = 0
    uncompared: int = 0  # judgments that only rate, or that wrote an answer
    train_prompts_left_out: int = 0
    judgments_left_out: int = 0
    ids: array = field(default_factory=lambda: array("q"))  # of the judgments that the files hold
    annotators: set[str] = field(default_factory=set)
    groups: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    guidelines: set[int] = field(default_factory=set)
    protocols: set[int] = field(default_factory=set)
    statistics: LabelStatistics = field(default_factory=LabelStatistics)

    @property
    def judgments(self) -> int:
        return self.judgments_train + self.judgments_test

    def facts(self, project: Project) -> dict:
        """What the manifest says beside the files. No times and no names of people: equal data, equal digest."""
        listed = sum(map(len, self.groups.values())) <= GROUP_NAMES_KEPT
        numbers = ("comparisons", "judgments_train", "judgments_test", "pairs_train", "pairs_test")
        return {
            "format": 1,
            "project": project.slug,
            "counts": {name: getattr(self, name) for name in numbers}
            | {
                "judgments": self.judgments,
                "undecided_pairs": self.undecided_pairs,
                "annotators": len(self.annotators),
                "train_prompts_left_out": self.train_prompts_left_out,
                "judgments_left_out": self.judgments_left_out,
            },
            "split": {
                "rule": "alignment.manifest.split_of(group, test_share)",
                "test_share": project.test_share,
                "groups": {split: len(names) for split, names in self.groups.items()},
                "group_names": {split: sorted(self.groups[split]) for split in SPLITS} if listed else None,
            },
            "aggregation": RULE,
            "guidelines": sorted(self.guidelines),
            "protocols": sorted(self.protocols),
            "statistics": self.statistics.metrics(),
        }


@contextmanager
def one_point_in_time() -> Iterator[None]:
    """Read the database as it is now, whatever others write meanwhile; nothing can be written in here.

    Durable, so no caller can put it into a transaction that reads on. Only a test's own transaction may be around it.
    """
    outermost = not connection.in_atomic_block
    with transaction.atomic(durable=True):
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def write_files(project: Project, folder: Path) -> Counts:
    """Write pairs-train.jsonl, pairs-test.jsonl and judgments.jsonl, ordered by comparison, to the disk for good."""
    counts = Counts()
    with one_point_in_time(), ExitStack() as stack:
        names = ("pairs-train", "pairs-test", "judgments")
        files = {name: stack.enter_context(open(folder / f"{name}.jsonl", "w")) for name in names}
        left_out = train_prompts_also_in_test(project)
        counts.train_prompts_left_out = len(left_out)
        counts.judgments_left_out = Judgment.objects.standing().filter(comparison__prompt__in=left_out).count()
        for comparison in _judged_comparisons(project).exclude(prompt__in=left_out).iterator(chunk_size=CHUNK):
            if comparison.standing:
                _write_comparison(comparison, split_of(comparison.prompt.group, project.test_share), files, counts)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    return counts


def train_prompts_also_in_test(project: Project) -> list[int]:
    """Prompts of train groups that read the same as a prompt of a test group: training on them would be cheating."""
    used = Exists(Comparison.objects.filter(prompt=OuterRef("pk")))
    prompts = Prompt.objects.filter(used, project=project).values_list("pk", "group", "messages")
    train, test = [], set()
    for pk, group, messages in prompts.iterator(chunk_size=CHUNK):
        text = "\n".join(normalised(turn["content"]) for turn in messages)
        digest = hashlib.sha256(text.encode()).digest()[:12]
        if split_of(group, project.test_share) == "test":
            test.add(digest)
        else:
            train.append((pk, digest))
    return [pk for pk, digest in train if digest in test]


def _judged_comparisons(project: Project):
    """Comparisons with any judgment; the caller skips those where none stands.

    Whether one stands is a join that must not be in this query: right after a large import the planner has no
    statistics, and chooses a plan for it that takes minutes.
    """
    cited = ("guideline", "protocol", "consent__version", "slot")
    standing, judged = Judgment.objects.standing(), Judgment.objects.filter(comparison=OuterRef("pk"))
    places = ComparisonCompletion.objects.select_related("completion__version").order_by("position")
    return (
        Comparison.objects.filter(Exists(judged), project=project)
        .select_related("prompt")
        .prefetch_related(
            Prefetch("judgments", standing.select_related(*cited).order_by("pk"), "standing"),
            Prefetch("comparisoncompletion_set", places, "places"),
        )
        .order_by("pk")
    )


def _write_comparison(comparison: Comparison, split: str, files: dict, counts: Counts) -> None:
    completions = [place.completion for place in comparison.places]
    votes = latest_votes(vote_of(row) for row in comparison.standing if counts_as_vote(row, comparison))
    pairs, undecided = decided_pairs(votes, len(completions))
    for row in comparison.standing:
        _write(files["judgments"], judgment_row(row, comparison, completions, split))
    for pair in pairs:
        _write(files[f"pairs-{split}"], pair_row(pair, comparison, completions))
    _count(counts, comparison, split, votes, pairs, undecided)


def counts_as_vote(row: Judgment, comparison: Comparison) -> bool:
    """Answers that check a labeler say nothing new about the pair, and one person's answer counts once."""
    checked = comparison.origin == Comparison.Origin.SWAPPED or (row.slot and row.slot.purpose not in VOTES)
    return not checked and (row.both_bad or row.ranking is not None)


def vote_of(row: Judgment) -> Vote:
    return Vote(row.annotator, row.ranking, row.strength, row.both_bad, strongest(row))


def strongest(row: Judgment) -> int:
    """The strongest grade of the protocol that the judgment was made under."""
    return row.protocol.definition.get("max_strength", 3)


def pair_row(pair: DecidedPair, comparison: Comparison, completions: list) -> dict:
    """A row as in contract 1: TRL's explicit-prompt conversational preference, and where it comes from."""
    votes = {name: value for name, value in asdict(pair).items() if name.startswith("votes_")}
    return {
        "prompt": comparison.prompt.messages,
        "chosen": [{"role": "assistant", "content": completions[pair.chosen].text}],
        "rejected": [{"role": "assistant", "content": completions[pair.rejected].text}],
        "margin": pair.margin,
        "group": comparison.prompt.group,
        "comparison": comparison.pk,
        **votes,
    }


def judgment_row(row: Judgment, comparison: Comparison, completions: list, split: str) -> dict:
    """One standing judgment with all it says; `replaces` names the judgment it revised."""
    return {
        "judgment": row.pk,
        "comparison": comparison.pk,
        "split": split,
        "group": comparison.prompt.group,
        "prompt": comparison.prompt.messages,
        "completions": [completion.text for completion in completions],
        "authors": [completion.author or completion.version.name for completion in completions],
        "ranking": row.ranking,
        "strength": row.strength,
        "max_strength": strongest(row),
        "both_bad": row.both_bad,
        "annotator": row.annotator,
        "origin": comparison.origin,
        "propensity": comparison.propensity,
        "replaces": row.replaces_id,
        "surplus": row.surplus,
        "display_order": row.display_order,
        "active_seconds": row.active_seconds,
        "rationale": row.rationale,
        "rewrite": row.rewrite,
        "ratings": row.ratings,
        "safety": row.safety,
        "spans": row.spans,
        "unrankable": row.unrankable,
        "reasons": row.reasons,
        "rewrite_of": row.rewrite_of,
        "implied_by": row.implied_by_id,
        "purpose": row.slot.purpose if row.slot else "",
        "repeats": comparison.repeats_id,
        "seen": row.seen,
        "consent": row.consent and row.consent.version.number,
        "guideline": row.guideline and row.guideline.number,
        "protocol": row.protocol.number,
    }


def _count(
    counts: Counts, comparison: Comparison, split: str, votes: list[Vote], pairs: list[DecidedPair], undecided: int
) -> None:
    rows, texts = comparison.standing, [place.completion.text for place in comparison.places]
    counts.comparisons += 1
    counts.ids.extend(row.pk for row in rows)
    counts.uncompared += sum(row.ranking is None and not row.both_bad for row in rows)
    counts.undecided_pairs += undecided
    setattr(counts, f"judgments_{split}", getattr(counts, f"judgments_{split}") + len(rows))
    setattr(counts, f"pairs_{split}", getattr(counts, f"pairs_{split}") + len(pairs))
    counts.groups[split].add(comparison.prompt.group)
    counts.annotators |= {row.annotator for row in rows}
    counts.guidelines |= {row.guideline.number for row in rows if row.guideline}
    counts.protocols |= {row.protocol.number for row in rows}
    for pair in pairs:
        counts.statistics.add_pair(texts[pair.chosen], texts[pair.rejected])
    if len(texts) == 2:
        counts.statistics.agreement.add(Counter(vote.prefers(0, 1) for vote in votes))
        for row in rows:
            if said := vote_of(row).prefers(0, 1):
                counts.statistics.add_judgment(said, row.display_order)


def _write(file, row: dict) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
