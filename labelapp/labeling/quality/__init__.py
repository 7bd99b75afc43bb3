"""What keeps judgments honest: disagreement, swapped repeats, gold, the quiz, and what is asked again."""
