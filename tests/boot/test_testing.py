"""How a test run is spread over processes."""

from types import SimpleNamespace

import pytest
from _pytest.config import Config

from labelapp import testing

Source = Config.ArgsSource


@pytest.mark.parametrize(
    ("source", "said", "controller", "expected"),
    [
        (Source.TESTPATHS, None, True, "logical"),
        (Source.ARGS, None, True, None),  # somebody named files or tests
        (Source.TESTPATHS, 0, True, 0),
        (Source.TESTPATHS, 3, True, 3),
        (Source.TESTPATHS, None, False, None),  # a worker that started workers would never end
    ],
)
def test_the_whole_suite_is_spread_once_unless_it_is_told_otherwise(source, said, controller, expected, monkeypatch):
    monkeypatch.setattr(testing, "is_controller", controller)
    option = SimpleNamespace(numprocesses=said, maxprocesses=None)
    config = SimpleNamespace(
        args_source=source, ArgsSource=Source, option=option, getoption=lambda name, default: option.numprocesses
    )
    running = testing.pytest_cmdline_main(config)
    next(running)
    running.close()
    assert option.numprocesses == expected
