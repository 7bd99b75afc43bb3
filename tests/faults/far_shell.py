"""Stands in for ssh where there is no second machine: `python far_shell.py HOST WORD ...`.

Like ssh it joins its words and gives them to a shell that starts elsewhere: with no environment of ours, in a directory
of its own, in a session and (for root) a process namespace of its own, so that no signal to us reaches it. What it is
told comes through us; killed, we take nothing along, and only the input of the other side ends.
"""

import os
import subprocess
import sys
import threading

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def main(words: list[str]) -> int:
    namespace = NAMESPACE if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0 else []
    bare = {"PATH": os.environ["PATH"]}
    shell = [*namespace, "sh", "-c", " ".join(words)]
    far = subprocess.Popen(shell, stdin=subprocess.PIPE, start_new_session=True, cwd="/", env=bare)
    threading.Thread(target=hand_on, args=[far], daemon=True).start()
    return far.wait()


def hand_on(far: subprocess.Popen) -> None:
    while said := os.read(0, 4096):
        os.write(far.stdin.fileno(), said)
    far.stdin.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
