"""The benchmarks' stages in this very process, one after another: a toy run without twenty starts of torch."""

from alignment.__main__ import main
from benchmarks import _stages


def run_here(command: list[str]) -> float:
    """In place of a process: the words after `python -m alignment`."""
    main(command[3:])
    return 0.0


def one_after_another(tasks):
    """In place of threads: only the main thread may listen for signals, as a stage does."""
    return {name: task() for name, task in tasks.items()}


def keep_in_process(monkeypatch, *modules) -> None:
    """Let the stages that these modules start run here."""
    monkeypatch.setattr(_stages, "run_process", run_here)
    for module in modules:
        monkeypatch.setattr(module, "side_by_side", one_after_another)
