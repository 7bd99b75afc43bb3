"""A random Llama of a few thousand weights, made on the fly: fast, and wrong about everything."""

from __future__ import annotations

from pathlib import Path

TEXT = [
    "Argue that books are better than television. Books are good because people think while they read them.",
    "Argue that every school should ask for uniforms. Uniforms are bad, as children want to choose for themselves!",
    "What is the best way to learn? Please help me, thank you. You can ask a teacher; sure, that is great.",
    "He said that she was right, and they agreed: 1, 2, 3, 40, 500.",
]


def tiny_tokenizer(vocabulary: int = 300):
    from alignment.data.text import train_tokenizer

    return train_tokenizer(TEXT, vocabulary)


def make_tiny_policy(
    directory: str | Path, seed: int = 0, *, width: int = 32, depth: int = 2, context: int = 256
) -> str:
    """Write a random policy (about 30,000 weights, vocabulary 300) and return its digest."""
    import torch

    from alignment.models.checkpoints import new_policy, save_checkpoint

    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = new_policy(tokenizer, width=width, depth=depth, heads=4, context=context)
    return save_checkpoint(model, tokenizer, directory, {"stage": "tiny", "seed": seed})


def make_tiny_reward(directory: str | Path, policy: str | Path, seed: int = 0) -> str:
    """Write a reward model with the policy's body and a random score head; return its digest."""
    import torch

    from alignment.data.text import load_tokenizer
    from alignment.models.checkpoints import reward_from_policy, save_checkpoint

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = reward_from_policy(policy)
    return save_checkpoint(model, load_tokenizer(policy), directory, {"stage": "tiny", "seed": seed})
