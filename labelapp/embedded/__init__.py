"""The default database and broker, for people who set neither DATABASE_URL nor BROKER_URL.

Both listen on unix sockets in a directory of mode 0700: no port is open and no other account gets in. Their
addresses are a pure function of the checkout's place, so settings name them without starting anything. "Running"
means "accepts a connection", never "a pid exists". A kill -9 of anything here is repaired by the next `ensure`.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator

from labelapp.embedded.places import BASE_DIR, EmbeddedError, data_root, make_private, socket_dir
from labelapp.embedded.postgres import Postgres
from labelapp.embedded.valkey import Valkey

__all__ = ["BASE_DIR", "EmbeddedError", "Services", "data_root", "ensure_default", "held_default", "wanted"]

DATABASE = "labelapp"


class Services:
    """One database and one broker that belong together: `default` for the app, `test` for the tests."""

    def __init__(self, which: str = "default", *, durable: bool = True) -> None:
        self.root = data_root(which)
        self.run = socket_dir(self.root)
        self.postgres = Postgres(self.root / "postgres", self.run, self.root / "postgres.log", durable)
        self.valkey = Valkey(self.root / "valkey", self.run / "valkey.sock", self.root / "valkey.log", durable)

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={self.run}"

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.valkey.socket}"

    def make_places(self) -> None:
        """Make the directories that hold data, sockets and small files; nothing is started."""
        with self._full_disk_named():
            make_private(self.root)
            make_private(self.run)

    @contextlib.contextmanager
    def held(self, *, database: bool = True, broker: bool = True) -> Iterator[set[str]]:
        """Use the servers for a while: start what is not running; the last of all users to leave stops them."""
        self.make_places()
        with open(self.root / "users", "a") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield self.ensure(database=database, broker=broker)
            finally:
                if _is_last(users):
                    self.stop()

    def ensure(self, *, database: bool = True, broker: bool = True) -> set[str]:
        """Start what is not running and return what this call started. Raises EmbeddedError."""
        started = set()
        with self._full_disk_named(), self._locked():
            if database and not self.postgres.accepts():
                self.postgres.start()
                started.add("postgres")
            if database and not self.postgres.accepts(DATABASE):
                self.postgres.create_database(DATABASE)
            if broker and not self.valkey.accepts():
                self.valkey.start()
                started.add("valkey")
        return started

    def stop(self) -> None:
        """Stop both servers and wait for their end; what is not running is fine."""
        with self._locked():
            self.valkey.stop()
            self.postgres.stop()

    def stop_unless_used(self) -> bool:
        """Stop the servers unless somebody holds them; whether they are stopped now."""
        if not self.root.exists():
            return True
        with open(self.root / "users", "a") as users:
            if not _is_last(users):
                return False
            self.stop()
        return True

    def secret_key(self) -> str:
        """Read the key that signs sessions, made at the first call and kept in a file of mode 0600."""
        file = self.root / "secret_key"
        if not file.exists():
            with self._locked():
                if not file.exists():
                    new = file.with_suffix(".new")
                    new.touch(0o600)
                    new.write_text(secrets.token_urlsafe(50))
                    new.rename(file)
        return file.read_text()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time start or stop servers."""
        self.make_places()
        with open(self.root / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _full_disk_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise EmbeddedError(f"No space is left on the disk of {self.root} (about 100 MB are needed).") from None


def _is_last(users) -> bool:
    """Whether nobody else holds the servers; then newcomers wait until the file is closed."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wanted() -> dict[str, bool]:
    """Which of the app's servers are embedded, since no variable names another."""
    return {"database": not os.environ.get("DATABASE_URL"), "broker": not os.environ.get("BROKER_URL")}


@contextlib.contextmanager
def held_default() -> Iterator[set[str]]:
    """Hold the app's own servers, as far as they are embedded."""
    if not any(wanted().values()):
        yield set()
        return
    with Services().held(**wanted()) as started:
        yield started


def ensure_default() -> set[str]:
    """Start what is not running of the app's own servers and return what was started. Raises EmbeddedError."""
    return Services().ensure(**wanted()) if any(wanted().values()) else set()
