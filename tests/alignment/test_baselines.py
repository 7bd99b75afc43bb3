"""The trivial baselines, on data where the right answer is known."""

import numpy as np

from alignment.measures.baselines import TextPair, bag_of_words_margins, correct, log_length_difference


def planted(n: int, *, seed: int) -> list[TextPair]:
    """The chosen completion holds "please"; length says nothing."""
    generator, words = np.random.default_rng(seed), ["tree", "river", "stone", "cloud", "house", "light"]

    def text(extra: str) -> str:
        return " ".join([*generator.choice(words, size=generator.integers(3, 9)), extra])

    return [TextPair(text("please"), text("never")) for _ in range(n)]


def test_the_longer_answer_wins_and_equal_lengths_count_half():
    pairs = [TextPair("longer", "short"), TextPair("short", "longer"), TextPair("same", "size")]
    assert correct(log_length_difference(pairs)).tolist() == [1.0, 0.0, 0.5]


def test_a_bag_of_words_finds_the_planted_word_on_pairs_it_never_saw():
    margins = bag_of_words_margins(planted(60, seed=0), planted(40, seed=1))
    assert correct(margins).mean() == 1.0


def test_swapping_the_sides_turns_every_margin_around():
    train, test = planted(30, seed=0), planted(10, seed=1)
    turned = [TextPair(p.rejected, p.chosen) for p in test]
    assert np.allclose(bag_of_words_margins(train, turned), -bag_of_words_margins(train, test))


def test_the_length_feature_learns_that_shorter_wins():
    generator = np.random.default_rng(0)

    def noise(n: int) -> str:
        return " ".join(generator.choice(["alpha", "beta", "gamma"], size=n))

    train = [TextPair(noise(3), noise(12)) for _ in range(40)]
    margins = bag_of_words_margins(train, [TextPair(noise(2), noise(20))], with_length=True)
    assert margins[0] > 0


def test_without_training_pairs_the_baseline_has_no_opinion():
    assert bag_of_words_margins([], planted(3, seed=0)).tolist() == [0, 0, 0]
    assert correct(bag_of_words_margins([TextPair("a", "b")], planted(3, seed=0))).tolist() == [0.5] * 3
