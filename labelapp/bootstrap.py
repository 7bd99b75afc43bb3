"""Makes .venv and installs what pyproject.toml asks for, with the standard library alone.

It runs before anything is installed and also under Pythons that are too old, so its syntax is that of Python 3.6.
LABELAPP_NO_BOOTSTRAP=1 (images, an environment of your own) uses the running interpreter as it is.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
VENV = BASE / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"
LOG = VENV / "install.log"
SUPPORTED = ((3, 11), (3, 13))
ROOM = 2 * 10**9  # bytes: the CPU build of torch and the rest

# What pip says -> what a person should read.
REASONS = (
    (r"No space left on device", "no space is left on the disk: about 2 GB are needed in {base} and in the temporary directory."),
    (
        r"NewConnectionError|Failed to establish a new connection|Name or service not known|name resolution"
        r"|Network is unreachable|Connection refused|ConnectTimeout|Read timed out|ProxyError|SSLError",
        "the package index cannot be reached. The first start needs the network (pip's own settings, such as "
        "PIP_INDEX_URL or a proxy, are honoured).",
    ),
    (r"Permission denied", "{venv} cannot be written by this user."),
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
    os.execve(str(PYTHON), [str(PYTHON), str(BASE / "manage.py")] + words, dict(os.environ, VIRTUAL_ENV=str(VENV), PATH=path))


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
    extras = sorted({extra} | set(have[1:]) - {""}) if have else [extra]
    extras = [name for name in extras if name]
    say("[2/2] Installing " + ("what changed" if have else "torch, Django and the rest: about 1.5 GB, a few minutes"))
    install(requirements(extras))
    (next(VENV.glob("lib/python*/site-packages")) / "labelapp.pth").write_text(str(BASE) + "\n")
    STAMP.write_text(" ".join([wanted] + extras))
    say("      Installed.")


def refuse_other_python():
    low, high = SUPPORTED
    if low <= sys.version_info[:2] <= high:
        return
    names = ["python%d.%d" % (low[0], minor) for minor in range(high[1], low[1] - 1, -1)]
    other = next((name for name in names if shutil.which(name)), None)
    raise Refused(
        "Python 3.%d to 3.%d is needed, and this is Python %s: " % (low[1], high[1], sys.version.split()[0])
        + ("run `%s manage.py %s`." % (other, " ".join(sys.argv[1:])) if other else "install one of them and start again with it.")
    )


def refuse_small_disk():
    free = shutil.disk_usage(str(BASE)).free
    if free < ROOM:
        raise Refused("no room: about 2 GB are needed in %s, and %.1f GB are free." % (BASE, free / 1e9))


def fingerprint():
    """Name the state of the environment: what is asked for, the versions pinned, the interpreter."""
    asked = hashlib.sha256(repr(requirements(["dev"])).encode())
    asked.update((BASE / "constraints.txt").read_bytes())
    asked.update((VENV / "pyvenv.cfg").read_bytes())
    return asked.hexdigest()


def requirements(extras):
    """Read the dependencies from pyproject.toml with the environment's own Python, which has tomllib."""
    code = "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))['project']))"
    out = subprocess.run([str(PYTHON), "-c", code, str(BASE / "pyproject.toml")], stdout=subprocess.PIPE, check=True).stdout
    import json

    project = json.loads(out.decode())
    return project["dependencies"] + [line for name in extras for line in project["optional-dependencies"][name]]


def install(wanted):
    """Let pip install into .venv, showing each package. Raises Refused with the reason in one sentence."""
    command = pip() + ["install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["-c", str(BASE / "constraints.txt")]
    if "PIP_RETRIES" not in os.environ:
        command += ["--retries", "2"]
    if os.environ.get("LABELAPP_TORCH_INDEX"):  # a CPU-only or another CUDA build of torch
        command += ["--extra-index-url", os.environ["LABELAPP_TORCH_INDEX"]]
    with open(str(LOG), "w") as log:
        running = subprocess.Popen(command + wanted, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        for line in running.stdout:
            log.write(line)
            log.flush()
            show(line)
    if running.wait():
        raise Refused(reason(LOG.read_text()))


def pip():
    """Name a pip that can install into .venv: the launching Python's, or one made by ensurepip."""
    outside = [sys.executable, "-m", "pip"]
    asked = subprocess.run(outside + ["--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    version = re.match(rb"pip (\d+)\.(\d+)", asked.stdout)
    if version and tuple(map(int, version.groups())) >= (22, 3):
        return outside + ["--python", str(PYTHON)]
    if subprocess.run([str(PYTHON), "-m", "ensurepip", "--upgrade"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        raise Refused("pip 22.3 or newer is needed: install your system's python3-pip package.")
    return [str(PYTHON), "-m", "pip"]


def show(line):
    """Pass on pip's lines that mean progress."""
    if re.match(r"\s*(Downloading|Using cached) .*\((\d{2,}(\.\d+)? MB|\d+(\.\d+)? GB)", line) or line.startswith("Installing"):
        say("      " + line.strip()[:100])


def reason(output):
    for pattern, sentence in REASONS:
        if re.search(pattern, output):
            return "the installation failed: " + sentence.format(base=BASE, venv=VENV)
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    return "the installation failed: %s (all of pip's output is in %s)" % (errors[-1] if errors else "see the log", LOG)


def sentence_of(error):
    if error.errno == errno.ENOSPC:
        return "no space is left on the disk of %s: about 2 GB are needed." % BASE
    return "%s: %s" % (error.filename or BASE, error.strerror)


def ensure_chromium():
    """Install Debian's chromium for the browser tests, where it is absent and this user may; else they are skipped."""
    if os.environ.get("CHROMIUM") or any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return
    if not shutil.which("apt-get"):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (not shutil.which("sudo") or subprocess.run(["sudo", "-n", "true"], stderr=subprocess.DEVNULL).returncode):
        return
    say("Installing chromium with apt-get for the browser tests ...")
    environ = ["env", "DEBIAN_FRONTEND=noninteractive"]
    for step in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
        if subprocess.run(sudo + environ + ["apt-get"] + step, stdout=subprocess.DEVNULL).returncode:
            say("apt-get could not install chromium; the browser tests say what is missing.")
            return


def say(text):
    print(text, flush=True)
