#!/usr/bin/env python3
"""Django's manage.py, which also makes its own environment and servers.

    python3 manage.py up      set everything up and run the app
    python3 manage.py test    set everything up and run all the tests (further words go to pytest)

Everything else is a Django command; `python3 manage.py help` lists them.
"""

import os
import signal
import sys

from labelapp import bootstrap

# These need no database, so they start none.
OFFLINE = {
    "bench", "check", "collectstatic", "compilemessages", "diffsettings", "down", "findstatic", "help",
    "makemessages", "makemigrations", "spectacular", "status", "up", "version",
}  # fmt: skip


def main(words):
    bootstrap.enter_environment(words)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelapp.settings")
    if not os.environ.get("LABELAPP_NO_BOOTSTRAP"):
        os.environ.setdefault("LABELAPP_LOCAL", "1")  # a checkout on somebody's own machine, not an installation
    command = words[0] if words else "help"
    if command == "up":
        os.environ.setdefault("HASHED_STATIC", "1")
    if command == "test":
        return run_tests(words[1:])
    if os.environ.get("LABELAPP_SUPERVISED"):
        from labelapp.leash import follow_supervisor

        follow_supervisor()
        return run_django(words)
    if command in OFFLINE or {"-h", "--help"} & set(words):
        return run_django(words)
    return run_with_servers(words)


def run_tests(words):
    bootstrap.ensure_chromium()
    import pytest

    return pytest.main(words)


def run_django(words):
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *words])


def run_with_servers(words):
    """Run one command; the embedded servers it starts end with it, unless somebody else uses them by then."""
    from labelapp import embedded

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with embedded.held_default():
            run_django(words)
    except embedded.EmbeddedError as error:
        sys.exit(f"labelapp: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
