import pytest
import torch

from alignment.data.batches import mask_of, pad
from alignment.models import logprob
from alignment.models.logprob import completion_logprobs

PROMPTS = [[3, 40, 41, 42, 4], [3, 50, 4], [3, 60, 61, 62, 63, 64, 4]]
ANSWERS = [[70, 71, 1], [80, 81, 82, 83, 84, 1], [90, 1]]


@pytest.fixture
def batch():
    rows = [p + a for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    learn = [[0] * len(p) + [1] * len(a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    return pad(rows, 0), mask_of(rows), pad(learn, 0).bool()


def by_hand(policy, row, start, temperature):
    logits = policy(torch.tensor([row])).logits[0].double() / temperature
    logs = torch.log_softmax(logits, -1)
    return torch.stack([logs[t - 1, row[t]] for t in range(start, len(row))])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_they_equal_a_forward_pass_of_each_row_alone(policy, batch, temperature):
    ids, mask, learn = batch
    found = completion_logprobs(policy, ids, mask, learn, temperature=temperature)
    assert found.shape == (3, ids.shape[1] - 1) and found.dtype == torch.float32
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        expected = by_hand(policy, prompt + answer, len(prompt), temperature)
        assert torch.allclose(found[i][learn[i, 1:]].double(), expected, atol=1e-5)
        assert not found[i][~learn[i, 1:]].any()


def test_padding_and_batch_mates_change_nothing(policy, batch):
    ids, mask, learn = batch
    whole = completion_logprobs(policy, ids, mask, learn).sum(1)
    wide = [torch.nn.functional.pad(t, (0, 9)) for t in batch]
    assert torch.allclose(completion_logprobs(policy, *wide).sum(1), whole, atol=1e-5)
    one = completion_logprobs(policy, *(t[1:2] for t in batch)).sum()
    assert torch.allclose(one, whole[1], atol=1e-5)


def test_chunks_change_neither_values_nor_gradients(policy, batch, monkeypatch):
    def gradient():
        policy.zero_grad()
        total = completion_logprobs(policy, *batch).sum()
        total.backward()
        return total.item(), [p.grad.clone() for p in policy.parameters()]

    total, gradients = gradient()
    monkeypatch.setattr(logprob, "CHUNK_LOGITS", 3 * policy.config.vocab_size)
    chunked, chunked_gradients = gradient()
    assert chunked == pytest.approx(total, abs=1e-5)
    for a, b in zip(gradients, chunked_gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_left_padding_is_refused(policy):
    mask = torch.tensor([[False, True, True]])
    with pytest.raises(ValueError, match="right-padded"):
        completion_logprobs(policy, torch.tensor([[0, 3, 4]]), mask, mask)
