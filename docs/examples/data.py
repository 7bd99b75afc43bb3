"""Write the data of the examples: `python docs/examples/data.py DIRECTORY`, from the shipped demo data alone.

Makes text.txt, dialogues.jsonl, prompts.jsonl, and pairs/, a snapshot in the format that the web application freezes.
The judgments are a crowd's (UKPConvArg1, CC BY 4.0, see labelapp/demo/NOTICE). Ratings and safety labels are not
people's: they are counted from the text, so that the examples of criteria and of a cost have something to learn from.
"""

import gzip
import json
import sys
from collections import Counter
from pathlib import Path

DEMO = Path(__file__).parents[2] / "labelapp" / "demo"
PAIRS = 160
TEST_DEBATES = 4
RANKING = {0: [[0, 1]], 1: [[0], [1]], 2: [[1], [0]]}  # a vote as the demo data writes it


def main(directory: Path) -> None:
    arguments, pairs = read_demo()
    debates = json.loads((DEMO / "debates.json").read_text())
    judged = [comparison(number, row, arguments, debates) for number, row in enumerate(pairs[:: len(pairs) // PAIRS])]
    groups = sorted({row["group"] for row in judged})
    for row in judged:
        row["split"] = "test" if row["group"] in groups[:TEST_DEBATES] else "train"
    train = [row for row in judged if row["split"] == "train"]
    (directory / "pairs").mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        rows = [decisive(row) for row in judged if row["split"] == split]
        write(directory / "pairs" / f"pairs-{split}.jsonl", [row for row in rows if row])
    write(directory / "pairs" / "judgments.jsonl", [vote for row in judged for vote in votes_of(row)])
    (directory / "text.txt").write_text("\n\n".join(text for row in train for text in row["completions"]) + "\n")
    write(directory / "dialogues.jsonl", [{"prompt": p["prompt"], "completion": p["chosen"]}
                                          for p in filter(None, map(decisive, train))])  # fmt: skip
    topics = (DEMO / "topics.txt").read_text().splitlines()[:24]
    write(directory / "prompts.jsonl", [{"id": number, "messages": user(topic)}
                                        for number, topic in enumerate(topics)])  # fmt: skip


def read_demo() -> tuple[dict[int, dict], list[dict]]:
    with gzip.open(DEMO / "arguments.jsonl.gz", "rt", encoding="utf-8") as stream:
        lines = [json.loads(line) for line in stream]
    short = {line["argument"]: line for line in lines if len(line.get("text", "x" * 999)) < 400}
    return short, [row for row in lines if row.get("votes") and set(row["pair"]) <= set(short)]


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def comparison(number: int, row: dict, arguments: dict[int, dict], debates: dict[str, dict]) -> dict:
    first, second = (arguments[argument] for argument in row["pair"])
    debate = debates[first["stance"]]
    return {
        "comparison": number,
        "group": debate["debate"],
        "prompt": user(debate["prompt"]),
        "completions": [first["text"], second["text"]],
        "votes": row["votes"],
    }


def decisive(row: dict) -> dict | None:
    """The comparison as a preference row, None where as many votes stand on either side."""
    counts = Counter(row["votes"].values())
    if counts[1] == counts[2]:
        return None
    better = 0 if counts[1] > counts[2] else 1
    sides = [{"role": "assistant", "content": row["completions"][side]} for side in (better, 1 - better)]
    return {
        "prompt": row["prompt"],
        "chosen": sides[:1],
        "rejected": sides[1:],
        "margin": 0.0,
        "group": row["group"],
        "comparison": row["comparison"],
        "votes_chosen": counts[1 + better],
        "votes_rejected": counts[2 - better],
        "votes_tie": counts[0],
    }


def votes_of(row: dict) -> list[dict]:
    """One judgment a vote, with a rating and a label for either completion that are counted, not judged."""
    shown = {key: row[key] for key in ("comparison", "group", "split", "prompt", "completions")}
    words = [len(text.split()) for text in row["completions"]]
    ratings = {"brevity": [5 - min(4, count // 15) for count in words]}
    safety = ["unsafe" if text.count("!") > 1 else "safe" for text in row["completions"]]
    return [
        {"judgment": f"{row['comparison']}-{number}", **shown, "ranking": RANKING[vote], "both_bad": False,
         "annotator": annotator, "origin": "import", "ratings": ratings, "safety": safety}
        for number, (annotator, vote) in enumerate(row["votes"].items())
    ]  # fmt: skip


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
