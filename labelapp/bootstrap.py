"""Makes .venv and installs what pyproject.toml asks for, with the standard library alone.

It runs before anything is installed and also under Pythons that are too old, so its syntax is that of Python 3.6.
LABELAPP_NO_BOOTSTRAP=1 (images, an environment of your own) uses the running interpreter as it is.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
VENV = BASE / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
LOG = VENV / "install.log"
SUPPORTED = ((3, 11), (3, 13))
PROGRESS = re.compile(r"\s*(Downloading|Using cached|Processing) .*(\(\d{2,}(\.\d+)? [MG]B|torch-)|Installing ")
ROOM = 2 * 10**9  # bytes: the CPU build of torch and the rest

# What pip says -> what a person should read. Without retries pip keeps a connection's failure to itself, and then
# has collected nothing at all.
UNREACHABLE = (
    "NewConnectionError|Failed to establish a new connection|Name or service not known|name resolution|SSLError"
    "|Network is unreachable|Connection refused|ConnectTimeout|Read timed out|ProxyError"
)
REASONS = (
    ("No space left on device", "no space is left on the disk: about 2 GB are needed in {base} and in {temp}."),
    ("Permission denied", "this user may not write {venv}."),
    (
        UNREACHABLE + r"|\A(?![\s\S]*Collecting )",
        "the package index cannot be reached. The first start needs the network; pip's own settings, such as "
        "PIP_INDEX_URL or a proxy, are honoured.",
    ),
)


class Refused(Exception):
    """What stops the start, as one sentence."""


def enter_environment(words):
    """Continue this very command with the environment's interpreter, making the environment first if need be."""
    if os.environ.get("LABELAPP_NO_BOOTSTRAP") or Path(sys.prefix) == VENV or has_everything():
        return
    try:
        with locked():
            prepare("dev" if words[:1] == ["test"] else "")
    except Refused as refusal:
        sys.exit("labelapp: " + str(refusal))
    except KeyboardInterrupt:
        sys.exit("labelapp: interrupted; the next start goes on from here.")
    except OSError as error:
        sys.exit("labelapp: " + sentence_of(error))
    path = str(VENV / "bin") + os.pathsep + os.environ.get("PATH", os.defpath)
    environ = dict(os.environ, VIRTUAL_ENV=str(VENV), PATH=path)
    os.execve(str(PYTHON), [str(PYTHON), str(BASE / "manage.py")] + words, environ)


def has_everything():
    """Whether the interpreter belongs to an active environment of the user's that has our dependencies."""
    if sys.prefix == sys.base_prefix:
        return False
    try:
        import celery  # noqa: F401
        import django  # noqa: F401
        import granian  # noqa: F401
    except ImportError:
        return False
    return True


@contextlib.contextmanager
def locked():
    """Let `up` and `test` started together install one after the other."""
    with open(str(BASE / ".bootstrap.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another start that is installing ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(extra):
    """Bring .venv up to date: nothing to do, or make it and install. Raises Refused."""
    if not PYTHON.exists():
        refuse_other_python()
        refuse_small_disk()
        say("[1/2] Making the environment .venv with Python " + sys.version.split()[0])
        # Without pip: Debian ships ensurepip apart, and the system's pip can install into .venv from outside.
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], check=True)
    wanted = fingerprint()
    have = STAMP.read_text().split() if STAMP.exists() else []
    if have[:1] == [wanted] and (not extra or extra in have):
        return
    extras = sorted({extra, *have[1:]} - {""})
    say("[2/2] Installing " + ("what changed" if have else "torch, Django and the rest: about 1.5 GB, a few minutes"))
    hint_at_small_torch()
    install(requirements(extras))
    (next(VENV.glob("lib/python*/site-packages")) / "labelapp.pth").write_text(str(BASE) + "\n")
    STAMP.write_text(" ".join([wanted] + extras))
    say("      Installed.")


def refuse_other_python():
    low, high = SUPPORTED
    if low <= sys.version_info[:2] <= high:
        return
    names = (f"python3.{minor}" for minor in range(high[1], low[1] - 1, -1))
    other = next((name for name in names if shutil.which(name)), None)
    remedy = f"run `{other} manage.py ...`" if other else "install one of them and start again with it"
    found = ".".join(map(str, sys.version_info[:3]))
    raise Refused(f"Python 3.{low[1]} to 3.{high[1]} is needed, and this is Python {found}: {remedy}.")


def refuse_small_disk():
    free = shutil.disk_usage(str(BASE)).free
    if free < ROOM:
        raise Refused(f"no room: about 2 GB are needed in {BASE}, and {free / 1e9:.1f} GB are free.")


def hint_at_small_torch():
    """Say how to avoid gigabytes of CUDA libraries where no GPU would use them."""
    chosen = os.environ.get("LABELAPP_TORCH_INDEX") or os.environ.get("PIP_FIND_LINKS")
    if sys.platform == "linux" and not chosen and not Path("/proc/driver/nvidia").exists():
        say("      No NVIDIA GPU is here. For the CPU build of torch, smaller by gigabytes, stop and start with")
        say("      LABELAPP_TORCH_INDEX=https://download.pytorch.org/whl/cpu (see docs/install.md).")


def fingerprint():
    """Name the state of the environment: what is asked for, the versions pinned, the interpreter, the place."""
    asked = hashlib.sha256(repr([str(BASE), requirements(["dev"])]).encode())
    asked.update((BASE / "constraints.txt").read_bytes())
    asked.update((VENV / "pyvenv.cfg").read_bytes())
    return asked.hexdigest()


def requirements(extras):
    """Read the dependencies from pyproject.toml with the environment's own Python, which has tomllib."""
    code = "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))['project']))"
    project = json.loads(subprocess.check_output([str(PYTHON), "-c", code, str(BASE / "pyproject.toml")]).decode())
    return project["dependencies"] + [line for name in extras for line in project["optional-dependencies"][name]]


def install(wanted):
    """Let pip install into .venv, showing the large packages. Raises Refused with the reason in one sentence."""
    command = pip() + ["install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["-c", str(BASE / "constraints.txt")]
    if "PIP_RETRIES" not in os.environ:
        command += ["--retries", "2"]
    if os.environ.get("LABELAPP_TORCH_INDEX"):  # where another build of torch comes from: CPU only, another CUDA
        command += ["--extra-index-url", os.environ["LABELAPP_TORCH_INDEX"]]
    code, output = run_shown(command + wanted)
    if code:
        raise Refused(reason(output))


def run_shown(command):
    """Run pip; its whole output goes to a log, what means progress to the terminal. Returns (exit code, output)."""
    with open(str(LOG), "w") as log:
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, errors="replace"
        )
        output = []
        for line in running.stdout:
            log.write(line)
            output.append(line)
            if PROGRESS.match(line):
                say("      " + line.strip()[:100])
    return running.wait(), "".join(output)


def pip():
    """Name a pip that can install into .venv: the launching Python's, or one made by ensurepip."""
    outside = [sys.executable, "-m", "pip"]
    asked = subprocess.run(outside + ["--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    version = re.match(rb"pip (\d+)\.(\d+)", asked.stdout)
    if version and tuple(map(int, version.groups())) >= (22, 3):
        return outside + ["--python", str(PYTHON)]
    made = subprocess.run([str(PYTHON), "-m", "ensurepip", "--upgrade"], stdout=subprocess.DEVNULL)
    if made.returncode:
        raise Refused("pip 22.3 or newer is needed: install your system's python3-pip package.")
    return [str(PYTHON), "-m", "pip"]


def reason(output):
    for pattern, sentence in REASONS:
        if re.search(pattern, output):
            sentence = sentence.format(base=BASE, venv=VENV, temp=tempfile.gettempdir())
            return "the installation failed: " + sentence
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    return f"the installation failed: {errors[-1] if errors else 'pip gave no reason'} (pip's output is in {LOG})"


def sentence_of(error):
    if error.errno == errno.ENOSPC:
        return f"no space is left on the disk of {BASE}: about 2 GB are needed."
    return f"{error.filename or BASE}: {error.strerror}."


def ensure_chromium():
    """Install Debian's chromium for the browser tests where it is absent and this user may; else they are skipped."""
    if os.environ.get("CHROMIUM") or any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return
    apt = apt_get()
    if not apt:
        return
    say("Installing chromium with apt-get for the browser tests ...")
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
        if subprocess.run(apt + step, stdout=subprocess.DEVNULL).returncode:
            say("apt-get could not install chromium; the browser tests say what is missing.")
            return


def apt_get():
    """Name the command that installs packages without asking, or None where this user may not."""
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return apt
    if shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], stderr=subprocess.DEVNULL).returncode:
        return ["sudo", "-n"] + apt
    return None


def say(text):
    print(text, flush=True)
