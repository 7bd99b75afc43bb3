"""Why a stage failed, as a code for scripts and a sentence with a remedy for a person."""

import signal

REMEDIES = {
    "bad_input": "Correct what it names and launch again.",
    "non_finite": "Lower the learning rate or look for broken rows; no weights of this step were kept.",
    "out_of_memory": "Use a smaller batch or a shorter max_length, or give the trainer more memory.",
    "disk_full": "Free space where ARTIFACT_DIR lies, then launch again.",
    "rank_lost": "Give the trainer more memory or fewer devices, then launch again.",
    "crashed": "The log holds the details.",
    "server_lost": "Start it as docs/rollouts.md says; while attempts are left, the round goes on where it was.",
    "timeout": "See in the log what it waits for, or let it be silent for longer (TRAINING_SILENT_MINUTES).",
    "not_launched": "The launcher ended before the trainer began: look at TRAINING_LAUNCHER.",
    "damaged": "Check the disk that ARTIFACT_DIR lies on, then launch again.",
}
EXIT_CODES = {
    64: "bad_input", 70: "non_finite", 74: "disk_full", 137: "out_of_memory", -signal.SIGKILL: "out_of_memory",
}  # fmt: skip
SIGNS = {
    "No space left on device": "disk_full",
    "Disk quota exceeded": "disk_full",
    "MemoryError": "out_of_memory",
    "out of memory": "out_of_memory",
    "bad_alloc": "out_of_memory",
    "can't allocate memory": "out_of_memory",
}


class StageFailed(Exception):
    """A stage ended without what it was asked for."""

    def __init__(self, code: str, sentence: str):
        super().__init__(sentence)
        self.code = code


def explain(stage: str, *, step: int = 0, returncode: int, result: dict | None, log: str) -> StageFailed:
    """The failure of a stage from its result.json, or where it wrote none from its exit code and its last words.

    step: the last one that it had told of.
    """
    code = (result or {}).get("code") or guess(returncode, log)
    code = code if code in REMEDIES else "crashed"
    reason = (result or {}).get("reason") or last_line(log) or f"it ended with exit code {returncode}"
    if code == "out_of_memory" and not (result or {}).get("reason"):
        reason = "the operating system killed it, most likely for want of memory"
    when = f" after step {step}" if step else ""
    return StageFailed(code, f"Stage {stage} failed{when}: {reason.strip().rstrip('.')}. {REMEDIES[code]}")


def guess(returncode: int, log: str) -> str:
    words = log[-4000:]
    return EXIT_CODES.get(returncode) or next((code for sign, code in SIGNS.items() if sign in words), "crashed")


def last_line(log: str) -> str:
    return next((line for line in reversed(log.splitlines()) if line.strip()), "")[:500]
