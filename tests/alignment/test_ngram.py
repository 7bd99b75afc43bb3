import numpy as np
import pytest

from alignment.measures.ngram import KneserNey


def total_bits(train, test, *, order, alphabet):
    return KneserNey(train, order=order, alphabet=alphabet).total_bits(test)


def draw(length, seed):
    """A chain over 5 symbols with strong habits."""
    random, chain = np.random.default_rng(seed), [0]
    for _ in range(length):
        chain.append((chain[-1] + 1) % 5 if random.random() < 0.8 else int(random.integers(5)))
    return np.array(chain)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_all_next_symbols_sum_to_one(order):
    train = draw(300, seed=1)
    total = sum(2 ** -total_bits(train, np.array([symbol]), order=order, alphabet=5) for symbol in range(5))
    assert total == pytest.approx(1)


def test_it_comes_near_the_entropy_of_the_source():
    bits = total_bits(draw(20000, seed=2), draw(5000, seed=3), order=3, alphabet=5) / 5000
    shares = np.array([0.84, 0.04, 0.04, 0.04, 0.04])
    entropy = -(shares * np.log2(shares)).sum()
    assert entropy < bits < entropy * 1.05


def test_a_symbol_never_seen_costs_a_finite_number_of_bits():
    bits = total_bits(np.array([0, 0, 0, 1]), np.array([7]), order=2, alphabet=8)
    assert np.isfinite(bits) and bits >= 3


def test_a_bigram_by_hand():
    """Train a b a b a a; D = n1/(n1+2 n2) for pairs ab 2, ba 2, aa 1 = 1/5; continuations a 2, b 1 of 3 kinds."""
    train, discount = np.array([0, 1, 0, 1, 0, 0]), 1 / 5
    unigram_discount = 1 / (1 + 2 * 1)  # one kind once (b after a), one twice (a after b, a)
    left = unigram_discount * 2 / 3
    a = (2 - unigram_discount) / 3 + left / 2
    expected = (1 - discount) / 3 + discount * 2 / 3 * a
    assert 2 ** -total_bits(train, np.array([0]), order=2, alphabet=2) == pytest.approx(expected)


def test_keys_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="63-bit"):
        total_bits(np.arange(10), np.arange(10), order=5, alphabet=8192)
