"""Checkpoints and what is asked of them: heads, adapters, log-probabilities and scores."""
