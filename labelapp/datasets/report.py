"""What an import says it did."""

from dataclasses import asdict, dataclass, field

REASONS_KEPT = 100


@dataclass
class Report:
    """What an import did, or would have done: counts of new rows, and every refused row with its reason."""

    source: str
    rows: int = 0
    prompts: int = 0
    fresh_prompts: int = 0
    completions: int = 0
    comparisons: int = 0
    judgments: int = 0
    open_comparisons: int = 0
    known: int = 0
    bad_rows: int = 0
    reasons: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, number: int, reason: str) -> None:
        """Count a bad row. The first 100 reasons are kept."""
        self.bad_rows += 1
        if len(self.reasons) < REASONS_KEPT:
            self.reasons.append((number, reason))

    def as_dict(self) -> dict:
        return asdict(self) | {"reasons": [{"row": number, "reason": reason} for number, reason in self.reasons]}
