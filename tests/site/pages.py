"""Every page that a person can open, and who may. A new route must be added here, or to NOT_A_PAGE with its reason."""

from collections.abc import Callable
from dataclasses import dataclass

from django.urls import reverse

from tests.site.filled import ROLES, Filled

NOBODY = "nobody"  # not signed in
READERS = ("researcher", "admin")
REVIEWERS = ("reviewer", "admin")
LABELERS = ("labeler", "reviewer", "admin")


@dataclass(frozen=True)
class Page:
    """A route, the roles that may open it, and what its address needs, after the project's slug where it has one."""

    route: str
    roles: tuple[str, ...]
    rest: Callable[[Filled], list] = lambda filled: []
    in_project: bool = True
    query: str | Callable[[Filled], str] = ""

    def address(self, filled: Filled) -> str:
        project = [filled.project.slug] if self.in_project else []
        query = self.query(filled) if callable(self.query) else self.query
        return reverse(self.route, args=[*project, *self.rest(filled)]) + query


def two_rounds(filled: Filled) -> str:
    rounds = filled.project.rounds.filter(kind="training").values_list("number", flat=True)[:2]
    return "?" + "&".join(f"round={number}" for number in rounds)


PAGES = [
    Page("account_login", (NOBODY,), in_project=False),
    Page("join", (NOBODY,), lambda filled: [filled.token], in_project=False),
    Page("home", ROLES, in_project=False),
    Page("label", LABELERS),
    Page("label_consent", LABELERS),
    Page("label_guidelines", LABELERS),
    Page("label_mine", LABELERS),
    Page("label_change", ("labeler",), lambda filled: [filled.people["labeler"].judgments.last().pk]),
    Page("label_summary", LABELERS),
    Page("review", REVIEWERS),
    Page("review_judgment", REVIEWERS, lambda filled: [filled.people["labeler"].judgments.last().pk]),
    Page("review_history", REVIEWERS),
    Page("labeling", READERS),
    Page("people", ("admin",)),
    Page("person", ("admin",), lambda filled: [filled.project.memberships.get(role="reviewer").pk]),
    Page("chat", LABELERS),
    Page("chat-models", ("admin",)),
    Page("project", READERS),
    Page("data", READERS),
    Page("prompts", READERS),
    Page("judgments", READERS),
    Page("comparisons", READERS),
    Page("comparison", READERS, lambda filled: [filled.project.comparisons.first().pk]),
    Page("comparisons", READERS, query="?skipped=any&state=open"),
    Page("comparison_gold", ("admin",), lambda filled: [filled.project.comparisons.first().pk]),
    Page("bulk_changes", ("admin",)),
    Page("bulk_change", ("admin",), lambda filled: [filled.project.bulk_changes.first().pk]),
    Page("snapshot", READERS, lambda filled: [filled.snapshot.digest]),
    Page("rounds", READERS),
    Page("round_new", ("admin",)),
    Page("round_new", ("admin",), query="?recipe=grpo"),
    Page("round_schedule", ("admin",)),
    Page("notices", ("admin",)),
    Page("recipes", READERS),
    Page("rounds_compute", READERS),
    Page("rounds_compare", READERS),
    Page("rounds_compare", READERS, query=two_rounds),
    Page("round", READERS, lambda filled: [filled.round.number]),
    Page("versions", READERS),
    Page("version", READERS, lambda filled: [filled.version.name]),
    Page("gate", ("admin",)),
    Page("trial_new", ("admin",), lambda filled: [filled.version.name]),
    Page("trial", READERS, lambda filled: [filled.project.trials.get().pk]),
    Page("promote", ("admin",), lambda filled: [filled.version.name]),
    Page("plans", READERS),
    Page("leaderboard", READERS),
    Page("leaderboard", READERS, query="?style=1&category=topic%3Dbottles"),
    Page("lineage", READERS),
    Page("lineage_of", READERS, lambda filled: ["version", filled.version.name]),
    Page("lineage_of", READERS, lambda filled: ["snapshot", filled.snapshot.digest]),
    Page("lineage_of", READERS, lambda filled: ["judgment", filled.people["labeler"].judgments.last().pk]),
    Page("lineage_source", READERS, lambda filled: [filled.snapshot.sources.first().pk]),
    Page("lineage_answers", READERS, lambda filled: [filled.version.name]),
    Page("lineage_compared", READERS, lambda filled: [filled.project.comparisons.first().completions.first().pk]),
    Page("lineage_annotator", READERS, lambda filled: [f"labeler-{filled.people['labeler'].pk}"]),
    Page("serving", READERS),
    Page("setup", ("admin",)),
    Page("setup_project", ("admin",)),
    Page("setup_protocol", ("admin",)),
    Page("setup_protocol", ("admin",), query="?preset=instructgpt"),
    Page("setup_protocol_versions", ("admin",)),
    Page("setup_guidelines", ("admin",)),
    Page("setup_guidelines_versions", ("admin",)),
    Page("setup_consent", ("admin",)),
    Page("setup_consent_versions", ("admin",)),
    Page("setup_queue", ("admin",)),
    Page("project_new", ("admin",), in_project=False),
]

# Routes that answer GET with something else than a page of ours.
NOT_A_PAGE = {
    "join": "needs a link's secret; tests/accounts/test_people_browser.py looks at it",
    "snapshot_file": "a file",
    "round_file": "a file",
    "audit_result": "a file",
    "round_events": "a stream",
    "chat-events": "a stream",
    "chat-past": "of its labeler alone; tests/chat looks at it",
    "round_estimate": "a part of the launch page; tests/rounds/test_estimates.py looks at it",
    "serving-state": "a part of the serving page",
    "deployment": "a part of the versions page",
    "rollback": "the page of promote; without an earlier version it leads back",
    "healthz": "JSON for machines",
    "readyz": "JSON for machines",
}
PREFIXES = ("api-", "account_")  # the REST API; allauth's pages besides the sign-in, which nothing links to
