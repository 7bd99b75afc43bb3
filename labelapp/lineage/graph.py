"""What came of what: the edges that the tables give, and the walk along them, in one recursive statement.

A node is named by its kind and key, such as "version:12". Judgments are many, so those of a snapshot that have the same
origin, sampling round and authors are one node, "source:ORIGIN:ROUND:VERSIONS".
"""

from collections import deque
from typing import NamedTuple

from django.db import connection

UP, DOWN = "up", "down"
MOST_EDGES = 20_000
EDGES = """
SELECT 'snapshot:' || snapshot_id AS tail, 'round:' || id AS head
FROM labelapp_round WHERE project_id = %(project)s AND snapshot_id IS NOT NULL
UNION SELECT 'version:' || parent_id, 'round:' || id
FROM labelapp_round WHERE project_id = %(project)s AND parent_id IS NOT NULL
UNION SELECT named #>> '{}', 'round:' || id
FROM labelapp_round, jsonb_path_query(recipe, '$.stages[*].inputs.* ? (@ starts with "version:")') AS named
WHERE project_id = %(project)s
UNION SELECT 'round:' || round_id, 'version:' || id
FROM labelapp_version WHERE project_id = %(project)s AND round_id IS NOT NULL
UNION SELECT 'version:' || parent_id, 'version:' || id
FROM labelapp_version WHERE project_id = %(project)s AND round_id IS NULL AND parent_id IS NOT NULL
UNION SELECT 'snapshot:' || snapshot_id, 'version:' || id
FROM labelapp_version WHERE project_id = %(project)s AND round_id IS NULL AND snapshot_id IS NOT NULL
UNION SELECT source.name, 'snapshot:' || source.snapshot_id FROM source
UNION SELECT 'round:' || source.round_id, source.name FROM source WHERE source.round_id IS NOT NULL
UNION SELECT 'version:' || author, source.name
FROM source, unnest(source.versions) AS author WHERE source.round_id IS NULL
UNION SELECT 'version:' || audit.version_id, 'audit:' || audit.id
FROM labelapp_audit audit JOIN labelapp_version version ON version.id = audit.version_id
WHERE version.project_id = %(project)s
UNION SELECT 'round:' || stage.round_id, 'audit:' || audit.id
FROM labelapp_audit audit
JOIN labelapp_version version ON version.id = audit.version_id
JOIN labelapp_stage stage ON stage.id = audit.stage_id
WHERE version.project_id = %(project)s AND stage.round_id IS DISTINCT FROM version.round_id
UNION SELECT 'version:' || event.version_id, 'epoch:' || event.id
FROM labelapp_deploymentevent event JOIN labelapp_version version ON version.id = event.version_id
WHERE version.project_id = %(project)s
UNION SELECT 'audit:' || event.audit_id, 'epoch:' || event.id
FROM labelapp_deploymentevent event JOIN labelapp_version version ON version.id = event.version_id
WHERE version.project_id = %(project)s AND event.audit_id IS NOT NULL
"""
SOURCE = """
SELECT source.*, concat('source:', source.origin, ':', source.round_id, ':', array_to_string(source.versions, ','))
  AS name
FROM labelapp_snapshotsource source JOIN labelapp_snapshot snapshot ON snapshot.id = source.snapshot_id
WHERE snapshot.project_id = %(project)s
"""


def walk(here: str, there: str) -> str:
    """The statement that goes from the roots, which stand at one end of edges, to whatever is at the other end."""
    return f"""
WITH RECURSIVE source AS ({SOURCE}), edge AS MATERIALIZED ({EDGES}), walk(node) AS (
  SELECT unnest(%(roots)s::text[])
  UNION
  SELECT edge.{there} FROM walk JOIN edge ON edge.{here} = walk.node
)
SELECT edge.tail, edge.head FROM walk JOIN edge ON edge.{here} = walk.node LIMIT %(most)s
"""


class Edge(NamedTuple):
    """What is made from the tail is the head."""

    tail: str
    head: str


def walked(project_id: int, roots: list[str], direction: str) -> set[Edge]:
    """Every edge on the ways up from the roots to what they came from, or down to what was made from them."""
    if not roots:
        return set()
    here, there = ("head", "tail") if direction == UP else ("tail", "head")
    with connection.cursor() as cursor:
        named = {"project": project_id, "roots": roots, "most": MOST_EDGES}
        cursor.execute(walk(here, there), named)
        return {Edge(*row) for row in cursor.fetchall()}


def distances(edges: set[Edge], start: str, direction: str) -> dict[str, int]:
    """Every node that can be reached from the start, and by how many edges; the start itself is 0 away."""
    beyond: dict[str, list[str]] = {}
    for tail, head in sorted(edges):
        here, there = (head, tail) if direction == UP else (tail, head)
        beyond.setdefault(here, []).append(there)
    found, waiting = {start: 0}, deque([start])
    while waiting:
        node = waiting.popleft()
        for other in beyond.get(node, ()):
            if other not in found:
                found[other] = found[node] + 1
                waiting.append(other)
    return found


class Story(NamedTuple):
    """One thing with all that it came from and all that was made from it; distances in edges."""

    anchor: str
    edges: set[Edge]
    before: dict[str, int]
    after: dict[str, int]

    def keys(self, kind: str, side: dict[str, int]) -> list[int]:
        """The keys of one kind on one side, such as of the snapshots before it."""
        return [int(node.partition(":")[2]) for node in side if node.startswith(f"{kind}:")]


def story_of(project_id: int, anchor: str, near: set[Edge]) -> Story:
    """near: edges of rows too many to be walked as such, around the anchor; the walk goes on from their ends."""
    above, below = distances(near, anchor, UP), distances(near, anchor, DOWN)
    edges = near | walked(project_id, list(above), UP) | walked(project_id, list(below), DOWN)
    return Story(anchor, edges, distances(edges, anchor, UP), distances(edges, anchor, DOWN))
