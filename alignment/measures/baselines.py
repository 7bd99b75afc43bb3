"""What a reward model must beat to have learned anything: the longer answer wins, and a bag of words.

Every function returns one signed margin a pair, positive where the baseline prefers the chosen completion, so that
`correct` scores baselines and reward models alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class TextPair(NamedTuple):
    """The two completions of a decisive comparison, as plain text."""

    chosen: str
    rejected: str


def correct(margins: np.ndarray) -> np.ndarray:
    """1 where the margin favours the chosen completion, 0.5 where it favours neither, else 0. Shape (n,)."""
    return (np.sign(margins) + 1) / 2


def log_length_difference(pairs: Sequence[TextPair]) -> np.ndarray:
    """log(1 + characters) of chosen minus rejected, shape (n,). Its sign is the baseline "longer wins"."""
    return np.asarray([np.log1p(len(p.chosen)) - np.log1p(len(p.rejected)) for p in pairs], dtype=np.float64)


def bag_of_words_margins(
    train: Sequence[TextPair], test: Sequence[TextPair], *, with_length: bool = False
) -> np.ndarray:
    """Margins on test of a logistic Bradley-Terry model on TF-IDF differences, fitted on train.

    Words and word pairs that occur at least twice; no intercept, since the sides of a comparison carry no meaning.

    Args:
        with_length: add the difference of log lengths, scaled to unit size, as one more feature.

    Returns:
        Shape (len(test),), logits; all 0 (no opinion) where there is nothing to learn from.
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if not train or not test:
        return np.zeros(len(test))
    try:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(
            [text for pair in train for text in pair]
        )
    except ValueError:  # no word occurs twice
        return np.zeros(len(test))
    scale = np.sqrt(np.mean(np.square(log_length_difference(train)))) or 1.0

    def features(pairs: Sequence[TextPair]):
        difference = words.transform([p.chosen for p in pairs]) - words.transform([p.rejected for p in pairs])
        if not with_length:
            return difference
        return hstack([difference, csr_matrix(log_length_difference(pairs)[:, None] / scale)], format="csr")

    seen = features(train)
    labels = np.arange(seen.shape[0]) % 2  # every other pair is turned around: the fit needs two classes
    turned = seen.multiply((2 * labels - 1)[:, None]).tocsr()
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    if len(train) < 2:
        return np.zeros(len(test))
    return model.fit(turned, labels).decision_function(features(test))
