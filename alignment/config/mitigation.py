"""What keeps a model from learning what it should not: "mitigation" in the stages reward and preference."""

from __future__ import annotations

from dataclasses import dataclass

from alignment.config.job import require


@dataclass(frozen=True)
class Groups:
    """How groups of comparisons weigh; with every default each comparison counts alike."""

    groups_file: str = ""  # JSON: {"comparison": "group"}; others, and all where it is empty: the prompt's own group
    group_balance: bool = False  # weigh comparisons so that groups count alike, each 1/5 to 5 times
    group_rate: float = 0.0  # step of the weights that follow the worst-off group, 0.01 to 0.1 is usual; 0: fixed
    group_adjustment: float = 0.0  # loss over the square root of a group's size: small groups generalise worse
    group_floor: float = 0.1  # share of the weights that stays equal

    def __post_init__(self) -> None:
        for name in ("group_rate", "group_adjustment"):
            require(getattr(self, name) >= 0, f"mitigation.{name}", getattr(self, name), "0 or more")
        require(0 <= self.group_floor <= 1, "mitigation.group_floor", self.group_floor, "a share from 0 to 1")
        both = self.group_balance and self.group_rate
        require(not both, "mitigation.group_balance", True, "false beside group_rate, which sets the weights")


@dataclass(frozen=True)
class Mitigation(Groups):
    """Of a reward model. With every default this is the baseline arm, to compare a mitigated one with."""

    length_penalty: float = 0.0  # weight of the squared correlation of score and log length; 0.3 is usual
    length_head: float = 0.0  # weight of ODIN's losses: a second head takes the length and is thrown away; 1 is usual
    augment: bool = False  # comparisons that name a gender count half as they are and half swapped
    annotators: bool = False  # learn how often each annotator is right, and believe their votes accordingly

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("length_penalty", "length_head"):
            require(getattr(self, name) >= 0, f"mitigation.{name}", getattr(self, name), "0 or more")
