"""How fast labelers are served: `python3 manage.py bench queue` prints one JSON line.

Real parts on servers of their own: a durable database, the web server with production's settings, HTTP. Simulated
labelers submit and get the next item, on 10 thousand and on a million open slots. In the same run stand beside it a
bare Django view with the same statements, and Postgres alone; the arms take turns. At last 40 labelers work at a human
pace against `manage.py up` while one of its rounds trains.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import _queue_fill, _queue_limit, _queue_paced
from benchmarks._queue_run import (
    ROOT,
    answers,
    cpu_seconds,
    environment,
    free_port,
    mean,
    percentiles,
    ratio,
    rss_mib,
    run_labelers,
    say,
    until,
)
from labelapp.embedded import Services

LABELERS = (1, 8, 32, 128)
SMALL = 10_000
COMPARED = 32  # labelers at whom 10 thousand slots are compared with a million
WORKERS, THREADS = 2, 2


def main(argv: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="bench queue", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, on 30 thousand slots")
    parser.add_argument("--slots", type=int, default=0, help="open slots of the big queue, a million by default")
    parser.add_argument("--labelers", type=int, nargs="+", default=LABELERS)
    parser.add_argument("--no-paced", action="store_true", help="leave out the labelers beside a training round")
    parser.add_argument("--seconds", type=float, default=6, help="of one turn")
    parser.add_argument("--paced-seconds", type=int, default=180, help="how long those work")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="lb-queue-") as work:
        os.chmod(work, 0o755)  # a root's database server runs under another account, which must get through
        os.environ["LABELAPP_VAR"] = work  # before settings are read: nothing of the user's is touched
        print(json.dumps(measure(Path(work), options)))
    return 0


def measure(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    big = options.slots or (30_000 if options.quick else 1_000_000)
    services = Services("queue")
    with services.held(broker=False):
        bench = Bench(work, services, max(128, *options.labelers), seconds=2 if options.quick else options.seconds)
        bench.fill("small", SMALL), bench.fill("big", big)
        with bench.web("small") as small, bench.web("big") as product, bench.bare("big") as bare:
            figures = {f"n{n}": bench.compare(n, product, bare) for n in options.labelers}
            cost = bench.cost(small, product, rounds=1 if options.quick else 3)
    if not options.no_paced:
        seconds = 30 if options.quick else options.paced_seconds
        figures["paced_40_while_training"] = _queue_paced.measure(work, seconds)
    return figures | cost | {"open_slots": big, "cores": os.cpu_count(), "workers": WORKERS, "threads": THREADS}


class Bench:
    """The database server with its two queues, and the arms that are measured on them."""

    def __init__(self, work: Path, services: Services, people: int, seconds: float) -> None:
        self.work, self.services, self.seconds = work, services, seconds
        manage = [sys.executable, "manage.py"]
        services.postgres.create_database("small")
        for words in (["migrate", "-v0"], ["collectstatic", "-v0", "--noinput"]):
            subprocess.run([*manage, *words], cwd=ROOT, env=self.environment("small"), check=True)
        made = [sys.executable, "-m", "benchmarks._queue_fill", str(people)]
        self.made = json.loads(subprocess.check_output(made, cwd=ROOT, env=self.environment("small")))
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE big TEMPLATE small")

    def dsn(self, database: str) -> str:
        return f"host='{self.services.run}' user=postgres dbname={database}"

    def environment(self, database: str) -> dict[str, str]:
        """Production's settings, on our own database."""
        return environment(self.work) | {
            "DATABASE_URL": f"postgresql://postgres@/{database}?host={self.services.run}", "LABELAPP_LOCAL": "0",
            "BROKER_URL": "memory://", "BENCH_PROJECT": str(getattr(self, "made", {"project": 0})["project"]),
        }  # fmt: skip

    def fill(self, database: str, open_slots: int) -> None:
        began = time.monotonic()
        _queue_fill.fill(self.dsn(database), self.made, open_slots)
        say(f"{database}: {open_slots} open slots, {time.monotonic() - began:.0f} s")

    def web(self, database: str):
        return self.granian("labelapp.wsgi:application", database, "page")

    def bare(self, database: str):
        return self.granian("benchmarks._queue_bare:application", database, "bare")

    @contextlib.contextmanager
    def granian(self, target: str, database: str, flow: str) -> Iterator[dict[str, Any]]:
        """One of the web servers, as production runs it: where it listens and what it answers to."""
        port = free_port()
        words = [
            "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--workers",
            str(WORKERS), "--blocking-threads", str(THREADS), "--no-ws", "--log-level", "warning", target,
        ]  # fmt: skip
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=self.environment(database))
        try:
            until(lambda: answers(port), "the web server's start")
            yield {"host": "127.0.0.1", "port": port, "path": f"/p/{_queue_fill.SLUG}/label/", "flow": flow,
                   "database": database, "pid": process.pid}  # fmt: skip
        finally:
            process.terminate()
            process.wait(30)

    def compare(self, labelers: int, product: dict, bare: dict) -> dict[str, Any]:
        """Both arms in turns, then Postgres alone, then the page without JavaScript: its claim and submit apart."""
        since = self.newest("big")
        turns = [(self.load(labelers, product), self.load(labelers, bare)) for _ in range(2)]
        ceiling = _queue_limit.judgments_per_second(self.services.run, "big", self.made, labelers, self.seconds / 2)
        apart = self.load(labelers, product | {"flow": "plain"}, self.seconds / 2)
        ours, theirs = ([turn[side] for turn in turns] for side in (0, 1))
        rate, limit = self.rate(ours), self.rate(theirs)
        loops = percentiles([second for run in ours for second in run["loops"]])
        bare_loops = percentiles([second for run in theirs for second in run["loops"]])
        errors = [error for run in (*ours, apart) for error in run["errors"]]
        for error in errors[:3]:
            say(error)
        figures = {
            "judgments_per_s": rate, **loops, "ceiling_per_s": ceiling, "ratio": ratio(rate, limit),
            "bare_per_s": limit, "bare_p95_ms": bare_loops["p95_ms"],
            "p95_over_bare": ratio(loops["p95_ms"], bare_loops["p95_ms"]), "ceiling_ratio": ratio(rate, ceiling),
            "claim": percentiles(apart["claims"]), "submit": percentiles(apart["submits"]),
            **self.faults("big", since, [number for run in ours for number in run["acknowledged"]]),
            "errors": len(errors), "bare_errors": sum(len(run["errors"]) for run in theirs),
            "rss_mib": rss_mib(product["pid"]), "kb_per_judgment": round(mean(ours, "bytes") / 1024, 2),
            "cpu_ms_per_judgment": self.cpu_ms(ours), "bare_cpu_ms": self.cpu_ms(theirs),
            "client_cpu_share": round(statistics.mean(run["cpu_share"] for run in ours), 2),
        }  # fmt: skip
        say(f"n{labelers}: {json.dumps(figures)}")
        return figures

    def cost(self, small: dict, big: dict, rounds: int) -> dict[str, Any]:
        """What a judgment costs on the big queue, in units of the small one: the median of runs in turns."""
        rates = []
        for _ in range(rounds):
            self.fill("small", SMALL)
            rates.append([self.rate([self.load(COMPARED, arm)]) for arm in (small, big)])
        cost = statistics.median(few / many for few, many in rates)
        return {"cost_1m_over_10k": round(cost, 3), "per_s_10k_and_1m": rates}

    def load(self, labelers: int, arm: dict[str, Any], seconds: float = 0) -> dict[str, Any]:
        job = arm | {"people": self.made["people"][:labelers], "seconds": seconds or self.seconds, "pace": 0}
        before = cpu_seconds(arm["pid"])
        run = run_labelers(job)
        return run | {"window": job["seconds"], "cpu": cpu_seconds(arm["pid"]) - before}

    def cpu_ms(self, runs: list[dict]) -> float:
        """CPU of the web server for a judgment, those of the warm-up too."""
        return round(1000 * statistics.median(run["cpu"] / max(1, run["answered"]) for run in runs), 2)

    def rate(self, runs: list[dict]) -> float:
        return round(statistics.mean(len(run["loops"]) / run["window"] for run in runs), 1)

    def newest(self, database: str) -> int:
        with psycopg.connect(self.dsn(database)) as connection:
            return connection.execute("SELECT COALESCE(max(id), 0) FROM labelapp_judgment").fetchone()[0]

    def faults(self, database: str, since: int, acknowledged: list[int]) -> dict[str, int]:
        """Judgments that are there twice or too many of one comparison; and acknowledged ones that are not there."""
        with psycopg.connect(self.dsn(database)) as connection:
            twice, too_many = connection.execute(DUPLICATES, {"since": since}).fetchone()
            query = "SELECT count(*) FROM labelapp_judgment WHERE id = ANY(%s)"
            kept = connection.execute(query, [acknowledged]).fetchone()[0]
        return {"duplicates": twice + too_many, "lost": len(acknowledged) - kept}


DUPLICATES = """
WITH touched AS (SELECT DISTINCT comparison_id AS id FROM labelapp_judgment WHERE id > %(since)s)
SELECT (SELECT count(*) FROM (
    SELECT FROM labelapp_judgment j JOIN touched ON touched.id = j.comparison_id WHERE NOT withdrawn
    GROUP BY comparison_id, labeler_id HAVING count(*) > 1) person),
  (SELECT count(*) FROM (
    SELECT FROM labelapp_judgment j JOIN touched ON touched.id = j.comparison_id WHERE NOT withdrawn AND NOT surplus
    GROUP BY comparison_id
    HAVING count(*) > (SELECT count(*) FROM labelapp_slot s WHERE s.comparison_id = j.comparison_id)) slots)
"""


if __name__ == "__main__":
    sys.exit(main())
