"""One web process and one engine with tiny versions, shared by the tests that call the API from outside."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
from django.core.management import call_command

from labelapp.accounts.keys import create_key
from labelapp.models import ApiKey, Deployment, Project, Version
from labelapp.rounds.promote import deployment_of, is_loaded, promote
from tests import servers
from tests.factories import make_project, make_user, make_version
from tests.tiny_models import make_tiny_policy

CONTEXT = 4096


@dataclass
class Served:
    """A project with two tiny versions, `first` promoted; a key; and the running processes."""

    project: Project
    admin: object
    first: Version
    second: Version
    key: ApiKey
    token: str
    url: str = ""
    place: Path = Path()
    engine: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def deployment(self) -> Deployment:
        return Deployment.objects.get(project=self.project)

    def start_engine(self):
        """Run the engine until it holds what is promoted. Close `engine` to kill it."""
        self.engine.enter_context(servers.engine(self.place / "engine.log"))
        promoted = Deployment.objects.filter(project=self.project, version__isnull=False).first()
        servers.wait_until(lambda: promoted is None or is_loaded(promoted.version), what="the promoted version")

    def client(self, token: str | None = None, **options) -> openai.OpenAI:
        options = {"max_retries": 0, "timeout": 60, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=token or self.token, **options)


def tiny_version(project: Project, place: Path, seed: int) -> Version:
    """A random policy on the disk and its row; its context is long enough for answers that take their time."""
    path = place / f"{project.slug}-{seed}"
    digest = make_tiny_policy(path, seed, context=CONTEXT)
    return make_version(project, name=f"policy-r{seed}-{digest[:8]}", path=str(path), digest=digest)


def promote_now(served: Served, version: Version) -> None:
    """Promote and wait until the alias has moved."""
    deployment = deployment_of(served.project)
    if deployment.version_id != version.pk:
        promote(deployment=deployment, version=version, by=served.admin, reason="a test", seen_epoch=deployment.epoch)
    servers.wait_until(lambda: served.deployment.version_id == version.pk, what=f"the switch to {version}")


@pytest.fixture(scope="package")
def db(django_db_setup, django_db_blocker) -> Iterator[None]:
    """Rows that other processes can see, for all tests of this folder; the database is emptied at the end."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", interactive=False, verbosity=0, reset_sequences=False)  # ids name rows for good


@pytest.fixture(scope="package")
def served(db, tmp_path_factory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("served")
    admin = make_user()
    project = make_project("served", admin=admin)
    key, token = create_key(project=project, name="tests", created_by=admin)
    first, second = (tiny_version(project, place, seed) for seed in (1, 2))
    served = Served(project, admin, first, second, key, token, place=place)
    # Fewer connections to the database than open streams: an answer must not hold one while it is generated.
    options = {"API_REQUESTS_PER_MINUTE": "100000", "DB_POOL": "1", "DB_POOL_MAX": "3"}
    with served.engine, servers.web(place / "web.log", **options) as url:
        served.url = url
        served.start_engine()
        promote_now(served, first)
        servers.wait_until(lambda: is_loaded(second), what="the candidate's preloading")
        yield served
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def client(served) -> openai.OpenAI:
    return served.client()
