"""Where the embedded servers keep their data, and which account they run as."""

import contextlib
import functools
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parents[2]
SYSTEM_DIR = Path("/var/lib/labelapp")
SOCKET_MAX = 90  # a unix socket's path holds 107 bytes; leave room for /.s.PGSQL.5432.lock


class EmbeddedError(Exception):
    """What stops the embedded servers from running, as one sentence with the remedy."""


def server_account() -> pwd.struct_passwd | None:
    """Name the account the servers run as when we are root: one that exists, since PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedError("PostgreSQL refuses to run as root, and this system has neither 'postgres' nor 'nobody'.")


def as_account() -> dict:
    """Arguments that make subprocess run a command as the servers' account."""
    account = server_account()
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


@functools.cache
def within_reach(path: Path) -> bool:
    """Whether the servers' account can enter this directory or run this file."""
    if not server_account():
        return os.access(path, os.X_OK)
    return subprocess.run(["test", "-x", str(path)], cwd="/", **as_account()).returncode == 0


def data_root(which: str) -> Path:
    """Name the directory of one set of servers: var/<which>, unless root keeps the checkout to itself."""
    if override := os.environ.get("LABELAPP_VAR"):
        return Path(override).absolute() / which
    if server_account() and not within_reach(BASE_DIR):
        return SYSTEM_DIR / short_hash(BASE_DIR) / which
    return BASE_DIR / "var" / which


def socket_dir(root: Path) -> Path:
    """Name the directory of the sockets: in the data directory, unless its path is too long for a socket."""
    inside = root / "run"
    if len(str(inside)) <= SOCKET_MAX:
        return inside
    return Path(tempfile.gettempdir()) / f"labelapp-{os.geteuid()}-{short_hash(root)}"


def short_hash(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:10]


def make_private(path: Path) -> None:
    """Make a directory of mode 0700 for the servers' account, or refuse one that others can enter.

    No directory that was there before changes its mode or owner.
    """
    for parent in reversed(path.parents):
        _make_passage(parent)
    if not path.exists():
        _make_owned(path)
    account, found = server_account(), path.lstat()
    owner = account.pw_uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise EmbeddedError(
            f"{path} must be a directory of mode 0700 that belongs to user {owner}: "
            "remove it, or name another place with LABELAPP_VAR."
        )
    if account and not within_reach(path):
        raise EmbeddedError(
            f"As root the servers run as '{account.pw_name}', which cannot enter {path}: "
            "name another place with LABELAPP_VAR."
        )


def _make_passage(path: Path) -> None:
    if path.exists():
        return
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o711 if server_account() else 0o700)


def _make_owned(path: Path) -> None:
    """Make the directory under another name first, so that a second starter never sees the wrong owner."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.mkdir(mode=0o700)
    if account := server_account():
        _give(new, account)
    try:
        new.rename(path)
    except OSError:
        new.rmdir()
        if not path.exists():
            raise


def _give(path: Path, account: pwd.struct_passwd) -> None:
    try:
        os.chown(path, account.pw_uid, account.pw_gid)
    except OSError as error:  # root of a container without other accounts
        path.rmdir()
        raise EmbeddedError(
            f"As root the servers run as '{account.pw_name}', to whom {path.parent} cannot give a directory "
            f"({error.strerror}): start as an ordinary user, or set DATABASE_URL and BROKER_URL."
        ) from None


def package_dir(name: str) -> Path:
    """Find an installed package without importing it; copied to where the servers' account can run it.

    A copy takes along `<name>.libs`, the shared libraries that the binaries look for beside their package.
    """
    spec = importlib.util.find_spec(name)
    if not spec or not spec.origin:
        raise EmbeddedError(f"No {name} is installed for this platform: set DATABASE_URL and BROKER_URL.")
    home = Path(spec.origin).parent
    if within_reach(home):
        return home
    copy = SYSTEM_DIR / f"{name}-{short_hash(home)}-{int(home.stat().st_mtime)}"
    if not copy.exists():
        _copy_package(home, copy)
    return copy / name


def _copy_package(home: Path, copy: Path) -> None:
    for parent in reversed(copy.parents):
        _make_passage(parent)
    new = copy.with_name(f".{copy.name}.{os.getpid()}")
    for source in (home, home.with_name(f"{home.name}.libs")):
        if source.exists():
            shutil.copytree(source, new / source.name, symlinks=True)
    new.chmod(0o755)
    try:
        new.rename(copy)
    except OSError:
        shutil.rmtree(new)
