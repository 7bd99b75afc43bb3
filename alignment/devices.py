"""The ranks of a run on several devices: who this process is, what it takes on, and what the ranks tell each other.

Every rank runs the same program on the same rows. The work of a step is dealt out, and what was found, a few numbers a
row, is added up, so that every rank knows all of it and decides alike. On one device nothing here does anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from alignment.config import Helped, Job, JobError
from alignment.data.batches import micro_batches

MEETING = "ALIGNMENT_MEETING"  # names the file where ranks of one machine find each other; without it torchrun's way
PATIENCE = timedelta(hours=12)  # one rank may measure alone for long; that a rank is gone shows at once all the same


class Ranks(NamedTuple):
    rank: int = 0
    size: int = 1
    threads: int = 0  # of the job, which rank 0 has for itself once the others are done; 0: as many as it had


_ranks = Ranks()


def rank() -> int:
    return _ranks.rank


def size() -> int:
    return _ranks.size


def leads() -> bool:
    """Whether this process writes what a run writes once: metrics, the best weights, the checkpoint, the result."""
    return _ranks.rank == 0


def join(job: Job) -> None:
    """Become the rank that the environment names, in torchrun's words. Raises JobError where job and start differ."""
    global _ranks
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != job.devices:
        raise JobError(f"devices is {job.devices}, but {started} ranks were started; let both be all ranks together")
    kind = "gloo"
    if torch.cuda.is_available():
        kind, place = "cpu:gloo,cuda:nccl", int(os.environ.get("LOCAL_RANK", 0))
        if place >= torch.cuda.device_count():
            raise JobError(f"devices is {job.devices}, but this machine has {torch.cuda.device_count()} GPUs; lower it")
        torch.cuda.set_device(place)
    meeting = f"file://{os.environ[MEETING]}" if MEETING in os.environ else "env://"
    number = int(os.environ["RANK"])
    dist.init_process_group(kind, init_method=meeting, rank=number, world_size=started, timeout=PATIENCE)
    _ranks = Ranks(number, started, job.threads)


def leave() -> None:
    """Part from the other ranks: rank 0 goes on alone. Raises Helped in the others, whose work is done."""
    helped = _ranks.rank > 0
    part()
    if helped:
        raise Helped


def part() -> None:
    """Be a process of its own again."""
    global _ranks
    if _ranks.size > 1:
        torch.set_num_threads(_ranks.threads or torch.get_num_threads())
        _ranks = Ranks()
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """What runs inside is not shared with the other ranks."""
    global _ranks
    held, _ranks = _ranks, Ranks()
    try:
        yield
    finally:
        _ranks = held


def meet() -> None:
    """Wait until every rank is here."""
    if _ranks.size > 1:
        dist.barrier()


def summed(tensor: Tensor) -> Tensor:
    """The sum over the ranks, in place: of rows that are zero except where this rank found something, all of them."""
    if _ranks.size > 1:
        dist.all_reduce(tensor)
    return tensor


def summed_number(number: float) -> float:
    return summed(torch.tensor(number, dtype=torch.float64)).item() if _ranks.size > 1 else number


def any_rank(asked: bool) -> bool:
    """Whether it is so on any rank: a signal may reach one of them a step earlier than the others."""
    return summed_number(float(asked)) > 0


def first(compute: Callable[[], Any]) -> Any:
    """What rank 0 computes, by itself, and tells the others: numbers, words, or whatever else JSON can hold."""
    if _ranks.size == 1:
        return compute()
    said = b""
    if leads():
        with alone():
            said = json.dumps(compute()).encode()
    return json.loads(_broadcast(said))


def _broadcast(said: bytes) -> bytes:
    length = torch.tensor(len(said))
    dist.broadcast(length, src=0)
    text = _bytes(said, int(length))
    dist.broadcast(text, src=0)
    return bytes(text.tolist())


def _bytes(said: bytes, length: int) -> Tensor:
    return torch.tensor([*said, *bytes(length - len(said))] if said else [0] * length, dtype=torch.uint8)


def gathered(items: list[Any]) -> list[list[Any]]:
    """The lists of all ranks, by rank; they hold what JSON can."""
    if _ranks.size == 1:
        return [items]
    said = json.dumps(items).encode()
    lengths = [torch.tensor(0) for _ in range(_ranks.size)]
    dist.all_gather(lengths, torch.tensor(len(said)))
    longest = max(map(int, lengths))
    texts = [torch.zeros(longest, dtype=torch.uint8) for _ in lengths]
    dist.all_gather(texts, _bytes(said, longest))
    return [json.loads(bytes(text[: int(n)].tolist())) for text, n in zip(texts, lengths, strict=True)]


class Pass(NamedTuple):
    """Rows that go through a model together."""

    rows: list[int]
    counts: bool = True  # false: run for the sake of the other ranks, which wait in every layer; adds nothing


def deal(lengths: Sequence[int], rows: Sequence[int], tokens: int) -> list[Pass]:
    """This rank's passes over its share of the rows, in their order, of at most `tokens` tokens each.

    All ranks get equally many: the weights of a layer are brought together by all of them at once. A pure function of
    its arguments and the rank.
    """
    if _ranks.size == 1:
        return [Pass(group) for group in micro_batches(lengths, rows, tokens)]
    dealt = [micro_batches(lengths, share, tokens) for share in shares(lengths, rows, _ranks.size)]
    own, most = dealt[_ranks.rank], max(map(len, dealt))
    idle = [Pass([min(rows, key=lengths.__getitem__)], counts=False)] if rows else []
    return [*map(Pass, own), *idle * (most - len(own))]


def shares(lengths: Sequence[int], rows: Sequence[int], parts: int) -> list[list[int]]:
    """The rows in so many runs of about equally many tokens: neighbours, which may begin alike, stay together."""
    found: list[list[int]] = [[] for _ in range(parts)]
    total, before = sum(lengths[row] for row in rows), 0
    for row in rows:
        found[min(parts - 1, (2 * before + lengths[row]) * parts // (2 * total))].append(row)
        before += lengths[row]
    return found


def shared(rows: Sequence[Any], compute: Callable[[Sequence[Any]], Tensor]) -> Tensor:
    """compute(rows), a tensor of one entry a row, each rank computing its share of the rows.

    It must not ask sharded weights, for which ranks wait: use it on models that every rank holds whole.
    """
    if _ranks.size == 1:
        return compute(rows)
    mine = shares([1] * len(rows), range(len(rows)), _ranks.size)[_ranks.rank]
    found = compute([rows[i] for i in mine] or rows[:1])
    whole = found.new_zeros(len(rows), *found.shape[1:])
    whole[mine] = found[: len(mine)]
    return summed(whole)
