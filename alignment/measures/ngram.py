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


class KneserNey:
    """An interpolated Kneser-Ney model of one sequence of symbols 0 .. alphabet - 1.

    Shorter orders count distinct left neighbours, not occurrences; one discount an order, n1 / (n1 + 2 n2); the
    empty context mixes with the uniform distribution. Source: Chen & Goodman 1999, section 2.7.
    """

    def __init__(self, train: np.ndarray, *, order: int, alphabet: int) -> None:
        """Raises ValueError where `order` symbols do not fit one 63-bit key."""
        self.bits = max(1, (alphabet - 1).bit_length())
        if order * self.bits > 63:
            raise ValueError(f"{order} symbols of {self.bits} bits do not fit a 63-bit key")
        self.alphabet, self.before = alphabet, train[len(train) - (order - 1) :]
        counted = np.unique(keys_of(train, order, self.bits), return_counts=True)
        self.orders = [Order(*counted, self.bits)]
        for n in range(order - 1, 0, -1):
            counted = np.unique(counted[0] & ((1 << n * self.bits) - 1), return_counts=True)
            self.orders.insert(0, Order(*counted, self.bits))

    def total_bits(self, test: np.ndarray) -> float:
        """Bits for every symbol of `test`, whose context starts as the training sequence's end."""
        stream = np.concatenate([self.before, test])
        probability = np.full(len(test), 1 / self.alphabet)
        for n, order in enumerate(self.orders, 1):
            grams = keys_of(stream[len(self.orders) - n :], n, self.bits)
            probability = order.interpolate(grams, probability)
        return float(-np.log2(probability).sum())
