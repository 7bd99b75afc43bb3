"""How arguments.jsonl.gz was made: python -m labelapp.demo.derive ukpconvarg1_full.jsonl.gz

Input: a row a pair, {"id", "topic", "a1", "a2", "votes": [[worker, "a1"|"a2"|"equal", ...], ...]}.
Output, a JSON object a line: {"argument": 3, "stance": ..., "text": ...}, {"pair": [3, 9], "votes": {worker: 1|2|0}}
where 0 means equally convincing, and {"open": [3, 12]} for pairs of gentle debates whose votes are not taken.
"""

import gzip
import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = HERE / "arguments.jsonl.gz"
PAIRS = 2000
OPEN = 200
VOTES = {"a1": 1, "a2": 2, "equal": 0}
# Debates anyone can judge in an introduction, without religion, violence or sexuality.
GENTLE = {
    "ban-plastic-water-bottles",
    "firefox-vs-internet-explorer",
    "india-has-the-potential-to-lead-the-world",
    "is-the-school-uniform-a-good-or-bad-idea",
    "personal-pursuit-or-advancing-the-common-good",
    "should-physical-education-be-mandatory-in-schools",
    "tv-is-better-than-books",
    "william-farquhar-ought-to-be-honoured-as-the-rightful-founder-of-singapore",
}


# Words that do not belong on a stranger's first screen. They stay in the imported votes, as people wrote them.
ROUGH = re.compile(
    r"\b(bitch|crap|damn|drug|dumb|gay|hell\b|idiot|kill|loll|mongrel|porn|rape|sex|shit|stupid|suck|whore)", re.I
)


def debate_of(topic: str) -> str:
    return topic.split("_")[0].rstrip("-")


def tidy(text: str) -> str:
    """The text with single spaces and at most one empty line; nothing else changes."""
    lines = [" ".join(line.split()) for line in text.strip().split("\n")]
    return "\n\n".join("\n".join(part.split("\n")) for part in "\n".join(lines).split("\n\n") if part.strip())


def shares(total: int, parts: int) -> list[int]:
    """Whole numbers as equal as can be."""
    return [total // parts + (place < total % parts) for place in range(parts)]


def read_stances(path: Path) -> dict[str, list[dict]]:
    """Pairs by stance, in a fixed pseudo-random order, each pair of texts once."""
    stances, seen = defaultdict(list), set()
    rows = map(json.loads, gzip.open(path, "rt", encoding="utf-8"))
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest()):
        row |= {"a1": tidy(row["a1"]), "a2": tidy(row["a2"])}
        texts = frozenset((row["a1"], row["a2"]))
        if len(texts) == 2 and (row["topic"], texts) not in seen:
            seen.add((row["topic"], texts))
            stances[row["topic"]].append(row)
    return dict(sorted(stances.items()))


def is_pleasant(row: dict) -> bool:
    """Short enough to judge in half a minute, long enough to be an argument, polite, and without links."""
    texts = (row["a1"], row["a2"])
    return all(80 <= len(text) <= 700 and "http" not in text and not ROUGH.search(text) for text in texts)


def choose(stances: dict[str, list[dict]]) -> tuple[list[dict], list[dict]]:
    """The pairs with votes, balanced over stances, and the open ones, balanced over gentle stances."""
    pairs, open_pairs = [], []
    for count, rows in zip(shares(PAIRS, len(stances)), stances.values(), strict=True):
        pairs += rows[:count]
    gentle = [topic for topic in stances if debate_of(topic) in GENTLE]
    taken = {row["id"] for row in pairs}
    for count, topic in zip(shares(OPEN, len(gentle)), gentle, strict=True):
        rest = [row for row in stances[topic] if row["id"] not in taken and is_pleasant(row)]
        open_pairs += rest[:count]
    return pairs, open_pairs


def lines(pairs: list[dict], open_pairs: list[dict]):
    numbers = {}
    for row in [*pairs, *open_pairs]:
        for side in ("a1", "a2"):
            key = (row["topic"], row[side])
            if key not in numbers:
                numbers[key] = len(numbers)
                yield {"argument": numbers[key], "stance": row["topic"], "text": row[side]}
    for row in pairs:
        votes = {vote[0]: VOTES[vote[1]] for vote in row["votes"]}
        yield {"pair": [numbers[row["topic"], row[side]] for side in ("a1", "a2")], "votes": votes}
    for row in open_pairs:
        yield {"open": [numbers[row["topic"], row[side]] for side in ("a1", "a2")]}


def main(source: str) -> None:
    pairs, open_pairs = choose(read_stances(Path(source)))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines(pairs, open_pairs))
    OUTPUT.write_bytes(gzip.compress(text.encode(), mtime=0))  # no time: the same input gives the same bytes
    print(f"{len(pairs)} pairs, {len(open_pairs)} open pairs, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
