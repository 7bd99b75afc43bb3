"""The losses of a reward model: one loss a pair, shape (B,), in nats."""

from __future__ import annotations

from torch import Tensor

from alignment.losses.pairwise import require_pairs, smoothed


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    *,
    margins: Tensor | None = None,
    margin: str = "none",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood that the chosen completion wins.

    Args:
        chosen, rejected: scores, shape (B,). Only their difference matters; equal scores cost ln 2.
        margins: strength of the preference, shape (B,), 0 (unknown or weakest) to 1.
        margin: "none"; "additive": the difference must exceed the margin (Touvron et al. 2023, arXiv:2307.09288,
            eq. 2); "scaled": the loss counts 1 + margin times (Wang et al. 2024, arXiv:2410.01257, whose factor is
            the strength alone; here an unknown strength still counts once).
        label_smoothing: share of labels taken to be wrong, 0 to below 0.5.

    Raises:
        ValueError: shapes differ, the batch is empty, or a margin is asked for and none is given.

    Source: Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1.
    """
    require_pairs(chosen, rejected)
    if margin != "none" and margins is None:
        raise ValueError(f"margin is {margin!r} but no margins were given")
    difference = chosen - rejected - margins if margin == "additive" else chosen - rejected
    losses = smoothed(difference, label_smoothing)
    return losses * (1 + margins) if margin == "scaled" else losses


def half_win_tie(first: Tensor, second: Tensor) -> Tensor:
    """The cost of a tie as half a win for each side, least where the scores are equal (ln 2).

    It is the Davidson (1970) tie likelihood for a tie parameter that goes to 0, up to a constant; with it a tie says
    only "equal", and the decisive pairs keep the plain Bradley-Terry likelihood.

    Args:
        first, second: scores, shape (B,). Order does not matter.
    """
    require_pairs(first, second)
    return smoothed(first - second, 0.5)


def centering(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Squared sum of a pair's two scores, shape (B,): Bradley-Terry leaves the zero free, this fixes it.

    Source: Eisenstein et al. 2023, arXiv:2312.09244, section 2.
    """
    require_pairs(chosen, rejected)
    return (chosen + rejected).square()
