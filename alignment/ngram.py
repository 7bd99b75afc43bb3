"""Interpolated Kneser-Ney n-grams over integers: the baseline that a language model must beat in bits per byte."""

from __future__ import annotations

import numpy as np


class Order:
    """Counts of one n-gram length: discounted shares of next symbols and the mass left to the shorter context."""

    def __init__(self, grams: np.ndarray, counts: np.ndarray, bits: int) -> None:
        """grams: sorted keys whose lowest `bits` bits are the predicted symbol; counts: how often each was seen."""
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = once / (once + 2 * twice) if once else 0.5
        contexts, starts = np.unique(grams >> bits, return_index=True)
        totals = np.add.reduceat(counts, starts)
        kinds = np.diff(np.append(starts, len(grams)))
        self.bits, self.grams, self.contexts = bits, grams, contexts
        self.share = (counts - discount) / np.repeat(totals, kinds)
        self.left = discount * kinds / totals

    def interpolate(self, grams: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Probabilities of the grams' last symbols, given those under the shorter context."""
        contexts = grams >> self.bits
        known, place = _find(self.contexts, contexts)
        left = np.where(known, self.left[place], 1.0)
        seen, place = _find(self.grams, grams)
        return np.where(seen, self.share[place], 0.0) + left * shorter


def _find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return keys[place] == wanted, place


def keys_of(symbols: np.ndarray, order: int, bits: int) -> np.ndarray:
    """One integer for each of the n-grams that end at positions order - 1, order, ..."""
    symbols = symbols.astype(np.int64)
    made = np.zeros(len(symbols) - order + 1, dtype=np.int64)
    for i in range(order):
        made = made << bits | symbols[i : len(symbols) - order + 1 + i]
    return made


def total_bits(train: np.ndarray, test: np.ndarray, *, order: int, alphabet: int) -> float:
    """Bits that an interpolated Kneser-Ney model of `train` needs for `test`, whose context starts as train's end.

    Shorter orders count distinct left neighbours, not occurrences; one discount an order, n1 / (n1 + 2 n2); the
    empty context mixes with the uniform distribution. Source: Chen & Goodman 1999, section 2.7.
    """
    bits = max(1, (alphabet - 1).bit_length())
    if order * bits > 63:
        raise ValueError(f"{order} symbols of {bits} bits do not fit a 63-bit key")
    stream = np.concatenate([train[-(order - 1) :], test]) if order > 1 else test
    probability = np.full(len(test), 1 / alphabet)
    for n in range(1, order + 1):
        counted = _counts(train, n, longest=n == order, bits=bits)
        probability = Order(*counted, bits).interpolate(keys_of(stream[order - n :], n, bits), probability)
    return float(-np.log2(probability).sum())


def _counts(symbols: np.ndarray, n: int, *, longest: bool, bits: int) -> tuple[np.ndarray, np.ndarray]:
    if longest:
        return np.unique(keys_of(symbols, n, bits), return_counts=True)
    longer = np.unique(keys_of(symbols, n + 1, bits))
    return np.unique(longer & ((1 << n * bits) - 1), return_counts=True)
