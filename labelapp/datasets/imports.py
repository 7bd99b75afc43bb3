"""How rows of a file become prompts, completions, comparisons and judgments: in batches, each thing once."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import connection

from labelapp.datasets.formats import BadRow, Row, default_group, read_row
from labelapp.datasets.reading import MAX_LINE, numbered_lines
from labelapp.datasets.report import Report
from labelapp.datasets.row_answers import STEPS, Answer
from labelapp.datasets.strict_json import BadJson, decode
from labelapp.labeling.protocol import parse
from labelapp.labeling.quality.gold import make_gold
from labelapp.labeling.queue import create_comparisons
from labelapp.models import (
    Batch,
    Comparison,
    ComparisonCompletion,
    Completion,
    Judgment,
    Project,
    Prompt,
    ProtocolVersion,
    Slot,
    text_hash,
)

BATCH = 1000

NumberedRow = tuple[int, Row]


def read_lines(stream: BinaryIO, report: Report, *, max_bytes: int | None) -> Iterator[NumberedRow]:
    """The good rows of a file; the bad ones go into the report."""
    return _read(numbered_lines(stream, max_bytes=max_bytes), _decode_line, report)


def read_records(records: Iterable[tuple[int, dict]], report: Report) -> Iterator[NumberedRow]:
    """The good ones of objects that are decoded already; the bad ones go into the report."""
    return _read(records, lambda record: record, report)


def _read(items: Iterable[tuple[int, Any]], decoded: Callable[[Any], dict], report: Report) -> Iterator[NumberedRow]:
    for number, item in items:
        report.rows += 1
        try:
            yield number, read_row(decoded(item), source=report.source)
        except (BadRow, BadJson) as error:
            report.refuse(number, str(error))


def _decode_line(line: bytes) -> dict:
    if len(line) > MAX_LINE:
        raise BadRow(f"longer than {MAX_LINE // 1024} KiB")
    return decode(line)


def batches(rows: Iterable[NumberedRow], size: int = BATCH) -> Iterator[list[NumberedRow]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def refresh_planner_statistics() -> None:
    """Let Postgres look at the tables again: after a large import it plans for the small ones it knew before."""
    tables = [model._meta.db_table for model in (Prompt, Completion, Comparison, ComparisonCompletion, Judgment, Slot)]
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {', '.join(tables)}")


def store_rows(project: Project, protocol: ProtocolVersion, batch: list[NumberedRow], report: Report) -> None:
    """Write what is not there yet. Rows that contradict what is there go into the report."""
    sizes = parse(protocol.definition).sizes
    batch = [(number, row) for number, row in batch if _fits(number, row, sizes, report)]
    prompts = _store_prompts(project, batch, report)
    batch = [(number, row) for number, row in batch if _keeps_group(number, row, prompts, report)]
    batch = [(number, row) for number, row in batch if not row.fresh]
    completions = _store_completions(batch, prompts, report)
    comparisons = _store_comparisons(project, batch, prompts, completions, report)
    _store_judgments(project, protocol, batch, comparisons, report)


def _fits(number: int, row: Row, sizes: range, report: Report) -> bool:
    """Whether the project's protocol can ask about that many completions."""
    size = len(row.completions)
    if row.fresh or size in sizes:
        return True
    wanted = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "none: the labeler writes the answer"
    report.refuse(number, f"{size} completions, where this project's protocol asks about {wanted}")
    return False


def _store_prompts(project: Project, batch: list[NumberedRow], report: Report) -> dict[str, Prompt]:
    wanted = {}
    for _, row in batch:
        wanted.setdefault(row.prompt_hash, row)
    found = _prompts(project, wanted)
    new = [
        Prompt(
            project=project,
            messages=row.prompt,
            content_hash=digest,
            group=row.group or default_group(row.prompt),
            source=report.source,
            fresh=row.fresh,
            metadata=row.metadata,
        )
        for digest, row in wanted.items()
        if digest not in found
    ]
    Prompt.objects.bulk_create(new, ignore_conflicts=True)
    report.prompts += len(new)
    made_fresh = sum(prompt.fresh for prompt in new)
    report.fresh_prompts += made_fresh
    report.known += sum(row.fresh for _, row in batch) - made_fresh
    return found | _prompts(project, [prompt.content_hash for prompt in new])


def _prompts(project: Project, hashes: Iterable[str]) -> dict[str, Prompt]:
    prompts = Prompt.objects.filter(project=project, content_hash__in=list(hashes))
    return {prompt.content_hash: prompt for prompt in prompts}


def _keeps_group(number: int, row: Row, prompts: dict[str, Prompt], report: Report) -> bool:
    """A prompt stays in the group it came with: moving it would move it between train and test."""
    group = prompts[row.prompt_hash].group
    if row.group in (None, group):
        return True
    report.refuse(number, f"this prompt is already in group {group[:40]!r}, not in {row.group[:40]!r}")
    return False


CompletionKey = tuple[int, str, str]  # prompt, hash, author


def _keys(row: Row, prompts: dict[str, Prompt]) -> list[CompletionKey]:
    prompt = prompts[row.prompt_hash].pk
    return [(prompt, digest, author) for digest, (_, author) in zip(row.text_hashes, row.completions, strict=True)]


def _store_completions(
    batch: list[NumberedRow], prompts: dict[str, Prompt], report: Report
) -> dict[CompletionKey, Completion]:
    wanted = {}
    for _, row in batch:
        wanted |= zip(_keys(row, prompts), (text for text, _ in row.completions), strict=True)
    found = _completions(wanted)
    new = [
        Completion(prompt_id=prompt, content_hash=digest, author=author, text=text)
        for (prompt, digest, author), text in wanted.items()
        if (prompt, digest, author) not in found
    ]
    Completion.objects.bulk_create(new, ignore_conflicts=True)
    report.completions += len(new)
    return found | _completions((row.prompt_id, row.content_hash, row.author) for row in new)


def _completions(keys: Iterable[CompletionKey]) -> dict[CompletionKey, Completion]:
    keys = set(keys)
    prompts, hashes = {prompt for prompt, _, _ in keys}, {digest for _, digest, _ in keys}
    rows = Completion.objects.filter(prompt__in=prompts, content_hash__in=hashes, version=None).defer("text")
    return {(row.prompt_id, row.content_hash, row.author): row for row in rows}


def _store_comparisons(
    project: Project,
    batch: list[NumberedRow],
    prompts: dict[str, Prompt],
    completions: dict[CompletionKey, Completion],
    report: Report,
) -> dict[str, Comparison]:
    """Comparisons by hash. Rows without an answer open places for people here; judged ones are in nobody's queue.

    Nor is gold, which is handed out to check people.
    """
    kinds = {}  # by how they are handed out, then by hash: a comparison is made once
    for _, row in batch:
        is_open = row.answer is None and row.gold is None
        kinds.setdefault((is_open, row.overlap, row.batch, row.requires), {})[row.comparison_hash] = row
    hashes = {row.comparison_hash for _, row in batch}
    known = set(project.comparisons.filter(content_hash__in=hashes).values_list("content_hash", flat=True))
    found, opened = {}, set()
    for (is_open, overlap, name, requires), rows in sorted(kinds.items(), key=lambda kind: not kind[0][0]):
        items = [(prompts[row.prompt_hash], [completions[key] for key in _keys(row, prompts)]) for row in rows.values()]
        about = {"overlap": overlap, "batch": _batch(project, name), "requires": requires, "slots": is_open}
        made = create_comparisons(project=project, items=items, origin=Comparison.Origin.IMPORT, **about)
        found |= zip(rows, made, strict=True)
        opened |= rows.keys() if is_open else set()
    opened -= known
    _mark_gold(batch, found)
    report.comparisons += len(found.keys() - known)
    report.open_comparisons += len(opened)
    report.known += sum(row.answer is None for _, row in batch) - len(opened) - len(_new_gold(batch) - known)
    return found


def _batch(project: Project, name: str | None) -> Batch | None:
    """The project's batch of this name, made where there is none."""
    return name and Batch.objects.get_or_create(project=project, name=name.strip())[0]


def _new_gold(batch: list[NumberedRow]) -> set[str]:
    return {row.comparison_hash for _, row in batch if row.gold is not None}


def _mark_gold(batch: list[NumberedRow], comparisons: dict[str, Comparison]) -> None:
    """Say of each gold row's comparison what is right, also where it has been here before."""
    for _, row in batch:
        if row.gold is not None:
            make_gold(comparisons[row.comparison_hash], gold=row.gold, explanation=row.explanation)


def _store_judgments(
    project: Project,
    protocol: ProtocolVersion,
    batch: list[NumberedRow],
    comparisons: dict[str, Comparison],
    report: Report,
) -> None:
    """One first answer a person and comparison; the same answer again is known, another one is refused."""
    answered = [
        (number, row, _submission_id(project, row), _body_hash(row)) for number, row in batch if row.answer
    ]
    known = dict(
        Judgment.objects.filter(submission_id__in=[submission for _, _, submission, _ in answered]).values_list(
            "submission_id", "body_hash"
        )
    )
    new = []
    for number, row, submission, body_hash in answered:
        if submission not in known:
            known[submission] = body_hash
            new.append(_judgment(row, comparisons[row.comparison_hash], protocol, submission, body_hash))
        elif known[submission] == body_hash:
            report.known += 1
        else:
            report.refuse(number, f"{row.answer.annotator[:60]!r} has already judged this pair differently")
    Judgment.objects.bulk_create(new)
    report.judgments += len(new)


def _judgment(
    row: Row, comparison: Comparison, protocol: ProtocolVersion, submission: UUID, body_hash: str
) -> Judgment:
    answer = row.answer
    return Judgment(
        comparison=comparison,
        external_annotator=answer.annotator,
        submission_id=submission,
        body_hash=body_hash,
        ranking=answer.ranking,
        strength=_in_grades(answer, protocol),
        unrankable=list(answer.unrankable),
        both_bad=answer.both_bad,
        rationale=answer.rationale,
        protocol=protocol,
    )


def _in_grades(answer: Answer, protocol: ProtocolVersion) -> int | None:
    """The strength in the grades that this project's protocol has: a clear win stays one."""
    here = protocol.definition.get("max_strength", STEPS)
    if not answer.strength or here == answer.max_strength:
        return answer.strength
    size = max(1, round(abs(answer.strength) * here / answer.max_strength))
    return size if answer.strength > 0 else -size


def _submission_id(project: Project, row: Row) -> UUID:
    """The same for the same project, comparison and annotator: that is what makes an import repeatable."""
    return uuid5(NAMESPACE_URL, f"labelapp/import/{project.pk}/{row.comparison_hash}/{row.answer.annotator}")


def _body_hash(row: Row) -> str:
    answer = row.answer
    said = [answer.ranking, answer.strength, answer.both_bad, answer.rationale]
    said += [list(answer.unrankable)] if answer.unrankable else []
    return text_hash(json.dumps(said, ensure_ascii=False))
