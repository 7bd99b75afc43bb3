"""A project of any number of open slots, half of its comparisons judged already; and people who are signed in.

Run as a program it makes the tables' project and people in the database of the environment, and prints who they are.
"""

from __future__ import annotations

import gzip
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

DEMO = Path(__file__).parents[1] / "labelapp" / "demo"
SLUG = "bench"
PROTOCOL = {"question": "Which answer is better?", "max_strength": 3, "tie": True, "both_bad": True}
GUIDELINES = "# What counts\n\nPrefer the answer that *helps* more.\n\n- True before long.\n- Clear before clever.\n"
LENGTH = 450  # characters of a response: about 1 KB a comparison with its prompt
OPEN_IN_A_FAMILY = 9

# A family is a prompt with four completions and their six pairs, each to be judged twice. Three of the pairs have one
# judgment already. Keys that Django would check anyway are given by arithmetic, so that no statement has to look.
FAMILY = """
INSERT INTO labelapp_prompt (id, project_id, messages, content_hash, "group", source, metadata, fresh, created_at)
  SELECT f, {project}, jsonb_build_array(jsonb_build_object('role', 'user', 'content', topic.text)),
    lpad(f::text, 64, '0'), f, 'bench', '{{}}', false, now()
  FROM generate_series({first}, {last}) f JOIN topic ON topic.id = f % {topics};
INSERT INTO labelapp_completion (id, prompt_id, text, content_hash, author, sampling, created_at)
  SELECT 4 * f + k, f, argument.text, lpad((4 * f + k)::text, 64, '0'), 'bench', '{{}}', now()
  FROM generate_series({first}, {last}) f CROSS JOIN generate_series(0, 3) k
    JOIN argument ON argument.id = (4 * f + k) % {texts};
INSERT INTO labelapp_comparison (id, project_id, prompt_id, protocol_id, overlap, origin, requires, explanation,
    content_hash, created_at)
  SELECT 6 * f + p, {project}, f, {protocol}, 2, 'random', '{{}}', '', lpad((6 * f + p)::text, 64, '0'), now()
  FROM generate_series({first}, {last}) f CROSS JOIN generate_series(0, 5) p;
INSERT INTO labelapp_comparisoncompletion (comparison_id, completion_id, position)
  SELECT 6 * f + p, 4 * f + ('{{{{0,1}},{{0,2}},{{0,3}},{{1,2}},{{1,3}},{{2,3}}}}'::int[])[p + 1][place + 1], place
  FROM generate_series({first}, {last}) f CROSS JOIN generate_series(0, 5) p CROSS JOIN generate_series(0, 1) place;
INSERT INTO labelapp_slot (id, comparison_id, project_id, number, priority, shuffle_key, state, labeler_id,
    display_order, requires, purpose, note)
  SELECT 12 * f + 2 * p + n, 6 * f + p, {project}, n, 0, (random() * 4294967295 - 2147483648)::bigint,
    CASE WHEN n = 1 AND p % 2 = 1 THEN 'done' ELSE 'open' END,
    CASE WHEN n = 1 AND p % 2 = 1 THEN {labeler} END, ARRAY[n, 1 - n], '{{}}', '', ''
  FROM generate_series({first}, {last}) f CROSS JOIN generate_series(0, 5) p CROSS JOIN generate_series(0, 1) n;
INSERT INTO labelapp_judgment (comparison_id, slot_id, labeler_id, external_annotator, submission_id, body_hash,
    strength, ranking, both_bad, withdrawn, surplus, display_order, protocol_id, created_at)
  SELECT 6 * f + p, 12 * f + 2 * p + 1, {labeler}, '', gen_random_uuid(), '', -1, '[[0], [1]]', false, false, false,
    '{{1, 0}}', {protocol}, now() - random() * interval '30 days'
  FROM generate_series({first}, {last}) f CROSS JOIN generate_series(1, 5, 2) p;
"""
TABLES = ("prompt", "completion", "comparison", "slot")


def make_people(count: int) -> dict[str, Any]:
    """The project, and people with a session each: {"project", "protocol", "people": [{"id", "session"}]}."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from labelapp.models import GuidelineVersion, Membership, Project, ProtocolVersion, User

    project = Project.objects.create(slug=SLUG, name="Bench", overlap=2)
    GuidelineVersion.objects.create(project=project, number=1, text=GUIDELINES)
    protocol = ProtocolVersion.objects.create(project=project, number=1, definition=PROTOCOL)
    users = User.objects.bulk_create(User(username=f"bench{n}", password="!") for n in range(count))
    Membership.objects.bulk_create(
        Membership(project=project, user=user, role="labeler", guideline_seen=1) for user in users
    )
    people = []
    for user in users:
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        people.append({"id": user.pk, "session": session.session_key})
    return {"project": project.pk, "protocol": protocol.pk, "people": people}


def fill(dsn: str, made: dict[str, Any], open_slots: int) -> None:
    """Add comparisons until so many slots of the project are open."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "SELECT count(*) FROM labelapp_slot WHERE project_id = %s AND state = 'open'"
        missing = open_slots - connection.execute(query, [made["project"]]).fetchone()[0]
        if missing > 0:
            _add(connection, made, -(-missing // OPEN_IN_A_FAMILY))


def _add(connection: psycopg.Connection, made: dict[str, Any], families: int) -> None:
    first = connection.execute(
        "SELECT 1 + greatest((SELECT max(id) FROM labelapp_prompt), (SELECT max(id) / 4 FROM labelapp_completion), "
        "(SELECT max(id) / 6 FROM labelapp_comparison), (SELECT max(id) / 12 FROM labelapp_slot), 0)"
    ).fetchone()[0]
    texts, topics = _texts(), (DEMO / "topics.txt").read_text().splitlines()
    people = [person["id"] for person in made["people"]]
    values = {"project": made["project"], "protocol": made["protocol"], "texts": len(texts), "topics": len(topics)}
    values["labeler"] = f"{people[0]} + (3 * f + p / 2) % {len(people)}"
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")  # foreign keys hold by arithmetic
        for table, lines in (("argument", texts), ("topic", topics)):
            connection.execute(f"CREATE TEMP TABLE {table} (id bigint PRIMARY KEY, text text) ON COMMIT DROP")
            with connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", list(enumerate(lines)))
        connection.execute(FAMILY.format(first=first, last=first + families - 1, **values))
        for table in TABLES:
            sequence = f"pg_get_serial_sequence('labelapp_{table}', 'id')"
            connection.execute(f"SELECT setval({sequence}, (SELECT max(id) FROM labelapp_{table}))")
    connection.execute("VACUUM ANALYZE")


def _texts() -> list[str]:
    """A thousand texts of real people's arguments, of one length."""
    with gzip.open(DEMO / "arguments.jsonl.gz", "rt", encoding="utf-8") as stream:
        arguments = [line["text"] for line in map(json.loads, stream) if "argument" in line]
    words = iter(" ".join(arguments * 4).split(" "))
    texts = []
    while len(texts) < 997 and (some := list(islice(words, 60))):
        texts.append(" ".join(some)[:LENGTH])
    return [f"{text.strip()} ({number})" for number, text in enumerate(texts)]


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(make_people(int(sys.argv[1]))))
