"""Stages that learn from judgments: the reward model and the preference losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alignment.config.job import build, require
from alignment.config.mitigation import Groups, Mitigation
from alignment.config.training import PRECISIONS, lora, optimization

REWARD, COST = "reward", "cost"  # heads: of the overall preference, and of safety; the others are named by criteria


@dataclass(frozen=True)
class Labels:
    """What a reward model takes for the truth; nested under "labels"."""

    source: str = "majority"  # majority: one label a pair | votes: the share of the annotators, a soft label
    ranking: str = "pairs"  # pairs: each counts 1 over their number | plackett_luce: an annotator's ranking as a whole
    tie_parameter: float = 0.0  # Davidson's nu: equals tie with probability nu / (2 + nu); 0: estimated from the ties
    robust: bool = False  # label_smoothing as the unbiased correction, not as cDPO's mixture
    weights_file: str = ""  # JSON: {"comparisons": {"12": 0.5}, "annotators": {"name": 0.8}}; others 1

    def __post_init__(self) -> None:
        require(self.source in {"majority", "votes"}, "labels.source", self.source, "majority or votes")
        known = {"pairs", "plackett_luce"}
        require(self.ranking in known, "labels.ranking", self.ranking, "pairs or plackett_luce")
        require(self.tie_parameter >= 0, "labels.tie_parameter", self.tie_parameter, "positive, or 0 to estimate it")


@dataclass(frozen=True)
class Heads:
    """The scores that a reward model gives a text; nested under "heads". One trunk carries them all."""

    ensemble: int = 1  # heads of the overall preference, each with its own bootstrap of the comparisons; 0: none
    criteria: list[str] = field(default_factory=list)  # one head each, on the order of the ratings
    safety: float = 0.0  # weight of the cost head's loss on the safety labels; 0: no such head

    def __post_init__(self) -> None:
        require(self.ensemble >= 0, "heads.ensemble", self.ensemble, "a number of heads")
        require(self.safety >= 0, "heads.safety", self.safety, "a positive weight, or 0 for no such head")
        taken = {"reward", "cost"} & set(self.criteria)
        require(not taken, "heads.criteria", self.criteria, "reward and cost are names of heads of their own")
        once = len(set(self.criteria)) == len(self.criteria)
        plain = all(name and "#" not in name for name in self.criteria)
        require(once and plain, "heads.criteria", self.criteria, "name each criterion once, by its key")
        require(self.ensemble or self.criteria or self.safety, "heads", self, "ask for at least one head")


@dataclass(frozen=True)
class RewardConfig:
    """A reward model on a snapshot's comparisons, read at the EOS token."""

    max_length: int = 512
    margin: str = "additive"  # none | additive | scaled (loss times 1 + margin)
    tie_weight: float = 0.0  # weight of ties in Davidson's likelihood, 1 is the proper one; 0 leaves them out
    label_smoothing: float = 0.0  # share of labels taken to be wrong
    centering: float = 0.01  # weight of the squared sum of a pair's two scores
    counterfactual_weight: float = 0.0  # weight of the counterfactual-invariance penalty; 0 is the baseline arm
    mitigation: Any = None
    labels: Any = None
    heads: Any = None
    precision: str = "fp32"  # fp32 | bf16 (fp32 weights, bf16 products) | auto: bf16 where a probe finds it faster
    lora: Any = None  # {"rank": 16, ...}: low-rank adapters instead of all weights; the heads stay trained
    optimization: Any = None

    def __post_init__(self) -> None:
        require(self.margin in {"none", "additive", "scaled"}, "margin", self.margin, "none, additive or scaled")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 up to below 0.5")
        require(self.centering >= 0, "centering", self.centering, "0 or more")
        require(self.tie_weight >= 0, "tie_weight", self.tie_weight, "0 or more")
        require(self.counterfactual_weight >= 0, "counterfactual_weight", self.counterfactual_weight, "0 or more")
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        for name, kind in (("mitigation", Mitigation), ("labels", Labels), ("heads", Heads)):
            given = getattr(self, name)
            object.__setattr__(self, name, given if isinstance(given, kind) else build(kind, given or {}))
        if self.labels.ranking == "plackett_luce":
            require(self.margin == "none", "margin", self.margin, "none: a ranking has no strength")
            require(self.label_smoothing == 0, "label_smoothing", self.label_smoothing, "0: it is for pairs")
        check_mitigation(self)
        object.__setattr__(self, "lora", lora(self.lora))
        object.__setattr__(self, "optimization", optimization(self.optimization))


def check_mitigation(config: RewardConfig) -> None:
    """Refuse a mitigation that the labels or heads leave no room for."""
    how, heads, pairs = config.mitigation, config.heads, config.labels.ranking == "pairs"
    alone = heads.ensemble == 1 and not heads.criteria and not heads.safety
    require(alone or not how.length_head, "mitigation.length_head", how.length_head, "0 beside other heads")
    require(alone or not how.annotators, "mitigation.annotators", True, "false beside other heads")
    require(pairs or not how.annotators, "mitigation.annotators", True, "false: it learns from pairs, not rankings")
    require(pairs or not how.group_rate, "mitigation.group_rate", how.group_rate, "0: it weighs pairs, not rankings")


LOSSES = ("sigmoid", "robust", "hinge", "ipo", "simpo", "orpo", "kto")
REFERENCE_FREE = {"simpo", "orpo"}
SMOOTHED = {"sigmoid", "robust", "simpo"}  # losses that know of wrong labels
MARGINS = {"sigmoid", "robust", "hinge"}  # losses of the implicit rewards' difference


@dataclass(frozen=True)
class Terms:
    """What is added to a preference loss, or decided before it; nested under "terms"."""

    nll_weight: float = 0.0  # of the chosen completion's negative log-likelihood a token: keeps it from falling
    length_penalty: float = 0.0  # R-DPO's alpha: reward a token that length explains of a preference; 0.01 is usual
    target_margin: float = 0.0  # SimPO's gamma, in units of reward
    weights_file: str = ""  # JSON: {"comparisons": {"12": 0.5}}; others 1, and 0 leaves one out
    safe_side_wins: bool = False  # of a safe and an unsafe completion the safe one wins; of two unsafe ones neither

    def __post_init__(self) -> None:
        require(self.nll_weight >= 0, "nll_weight", self.nll_weight, "0 or more")
        require(self.length_penalty >= 0, "length_penalty", self.length_penalty, "0 or more")
        require(self.target_margin >= 0, "target_margin", self.target_margin, "0 or more")


@dataclass(frozen=True)
class Unpaired:
    """Where KTO's desirable and undesirable completions come from; nested under "unpaired"."""

    pairs: bool = True  # the chosen completion of a decisive pair is desirable, the rejected one is not
    both_bad: bool = True  # where most annotators call all completions bad, none is desirable
    criterion: str = ""  # whose ratings are labels too; empty: no rating is
    desirable_from: float = 4.0  # mean rating from which a completion is desirable
    undesirable_to: float = 2.0  # mean rating up to which it is not; between the two it is left out
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        ordered = self.undesirable_to < self.desirable_from
        require(ordered, "undesirable_to", self.undesirable_to, f"below desirable_from, {self.desirable_from}")
        require(self.desirable_weight > 0, "desirable_weight", self.desirable_weight, "above 0")
        require(self.undesirable_weight > 0, "undesirable_weight", self.undesirable_weight, "above 0")


@dataclass(frozen=True)
class PreferenceConfig:
    """Preference optimisation of a policy, by default DPO with the parent as its frozen reference."""

    loss: str = "sigmoid"  # sigmoid (DPO) | robust | hinge | ipo | simpo | orpo | kto
    beta: float = 0.1  # reward a nat of log-ratio; IPO's tau; ORPO's lambda; SimPO wants 2 to 10
    label_smoothing: float = 0.0  # share of labels taken to be wrong; sigmoid: cDPO; robust: unbiased
    terms: Any = None
    mitigation: Any = None  # how groups of comparisons weigh
    unpaired: Any = None  # for kto
    rows: str = ""  # for kto, JSONL: {"prompt", "completion", "label": true or false}, and "weight" where it is not 1
    max_length: int = 512
    max_chosen_drop_nats: float = 0.0  # ends the run when a batch's chosen completions lost so much; 0: no limit
    show: int = 0  # prompts that are answered as the policy changes, in samples.jsonl
    reference_cache: str = ""  # a directory that runs share; empty: below the output
    precision: str = "fp32"  # fp32 | bf16 (fp32 weights, bf16 products) | auto: bf16 where a probe finds it faster
    lora: Any = None
    optimization: Any = None

    def __post_init__(self) -> None:
        check_pair_loss(self, LOSSES)
        drop, free = self.max_chosen_drop_nats, self.loss in REFERENCE_FREE
        require(drop >= 0, "max_chosen_drop_nats", drop, "a number of nats, or 0 for no limit")
        require(not (drop and free), "max_chosen_drop_nats", drop, f"{self.loss} has no reference to fall below")
        require(self.show >= 0, "show", self.show, "a number of prompts, or 0 for none")
        require(not self.rows or self.loss == "kto", "rows", self.rows, "kto alone learns from unpaired rows")
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        terms = built(Terms, self.terms)
        require_terms(self.loss, terms)
        object.__setattr__(self, "terms", terms)
        how = built(Groups, self.mitigation)
        require(self.loss != "kto" or how == Groups(), "mitigation", how, "no groups: kto learns from no comparisons")
        object.__setattr__(self, "mitigation", how)
        object.__setattr__(self, "unpaired", built(Unpaired, self.unpaired))
        object.__setattr__(self, "lora", lora(self.lora))
        object.__setattr__(self, "optimization", optimization(self.optimization))


def check_pair_loss(config: Any, losses: Sequence[str]) -> None:
    """Refuse a loss that is not among these, and a beta or a smoothing that it cannot take."""
    require(config.loss in losses, "loss", config.loss, f"one of {', '.join(losses)}")
    require(config.beta > 0, "beta", config.beta, "a positive number, 0.1 is usual")
    smoothing, takes = config.label_smoothing, config.loss in SMOOTHED
    require(0 <= smoothing < 0.5, "label_smoothing", smoothing, "0 up to below 0.5")
    require(takes or smoothing == 0, "label_smoothing", smoothing, f"{config.loss} takes none; set it to 0")
    needs = config.loss == "robust" and smoothing == 0
    require(not needs, "label_smoothing", smoothing, "the share of flipped labels that robust corrects, such as 0.1")


def require_terms(loss: str, terms: Terms) -> None:
    """Refuse a term that this loss would leave out silently."""
    nll, length, target = terms.nll_weight, terms.length_penalty, terms.target_margin
    require(loss != "kto" or not terms.safe_side_wins, "safe_side_wins", True, "false: kto learns from no pairs")
    require(nll == 0 or loss != "orpo", "nll_weight", nll, "orpo holds this term with weight 1; change beta instead")
    require(nll == 0 or loss != "kto", "nll_weight", nll, "kto takes none; raise its desirable_weight")
    require(length == 0 or loss in MARGINS, "length_penalty", length, f"only {', '.join(sorted(MARGINS))} take one")
    require(target == 0 or loss == "simpo", "target_margin", target, "only simpo takes one")


def built(kind: type, raw: Any) -> Any:
    return raw if isinstance(raw, kind) else build(kind, raw or {})
