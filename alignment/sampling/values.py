"""The value model of policy gradients: what each state of a completion is worth, read by a head of one number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import devices
from alignment.config import REWARD, JobError
from alignment.data.batches import MICRO_TOKENS
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_reward, reward_from_policy, score_head
from alignment.models.heads import one_head
from alignment.models.packing import text_states
from alignment.models.sequences import Batch
from alignment.sampling.rollouts import batch_of, passes_of


class PolicyAndValue(torch.nn.Module):
    """The models that one optimizer trains. They share no weight: no model's loss disturbs another's features."""

    def __init__(
        self, policy: PreTrainedModel, value: PreTrainedModel, cost_value: PreTrainedModel | None = None
    ) -> None:
        super().__init__()
        self.policy, self.value = policy, value
        if cost_value is not None:
            self.cost_value = cost_value

    @property
    def value_models(self) -> dict[str, PreTrainedModel]:
        """By the name of the tensor that holds their old values; what they should have said is in NAME_return."""
        return {name: model for name, model in self.named_children() if name != "policy"}


def value_from_reward(reward: Path, tokenizer: PreTrainedTokenizerBase, head: str = REWARD) -> PreTrainedModel:
    """A copy of the reward model: its first values are the scores this head would give to unfinished texts.

    Raises JobError where it reads other token ids than the policy writes, or has no such head.

    Source: Stiennon et al. 2020, arXiv:2009.01325, section 3.4; detail 9 of Huang et al. 2024, arXiv:2403.17031.
    """
    if load_tokenizer(reward).get_vocab() != tokenizer.get_vocab():
        raise JobError(f"the reward model in {reward} has its own vocabulary; set value.source to policy")
    return one_head(load_reward(reward), head)


def value_from_policy(parent: Path) -> PreTrainedModel:
    """The policy's body under a head of zeros: every first value is 0 rather than noise."""
    model = reward_from_policy(parent)
    torch.nn.init.zeros_(score_head(model).weight)
    return model


def state_values(model: PreTrainedModel, batch: Batch) -> Tensor:
    """(B, T + 1) values: place t is the state before token t, place T the one after the last; place 0 has no state.

    A completion of n tokens that begins at place s has its states at s to s + n. The others mean nothing.
    """
    states, places = text_states(model, batch.ids, batch.mask)
    values = score_head(model)(states).squeeze(-1).float()  # (S,)
    return F.pad(values.index_select(0, places.flatten()).view(places.shape), (1, 0))


@torch.no_grad()
def rollout_values(model: PreTrainedModel, tensors: Mapping[str, Tensor], tokens: int = MICRO_TOKENS) -> Tensor:
    """(N, T + 1) values of a whole rollout without a graph, in passes of at most `tokens` tokens."""
    whole, lengths = batch_of(tensors), tensors["tokens"].tolist()
    found = torch.zeros(len(lengths), whole.ids.shape[1] + 1, device=whole.ids.device)
    for group, counts in passes_of(tensors, tokens):
        width = max(lengths[i] for i in group)
        part = Batch(*(tensor[group, :width] for tensor in whole))
        found[group, : width + 1] += state_values(model, part) * counts
    return devices.summed(found)
