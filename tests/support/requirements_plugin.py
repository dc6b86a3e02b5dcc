"""The pytest side of the requirements: checks the ``req`` marks and keeps what a complete run proved."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.requirements import EVIDENCE, REFERENCE, Evidence, Outcome, parse_requirements, write_evidence

MOST_ROWS_A_TEST: Final = 3
_NARROWING = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "collectonly")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"req(*ids): rows of docs/reference/requirements.md that the test proves, {MOST_ROWS_A_TEST} at most",
    )
    if not hasattr(config, "workerinput"):  # a worker of pytest-xdist sends its reports to the one that writes
        config.pluginmanager.register(_Recorder(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = parse_requirements(REFERENCE.read_text())
    for item in items:
        cited = [identifier for mark in item.iter_markers("req") for identifier in mark.args]
        if unknown := [identifier for identifier in cited if identifier not in known]:
            raise pytest.UsageError(f"{item.nodeid} cites {unknown}, which {REFERENCE.name} does not have")
        if len(cited) > MOST_ROWS_A_TEST:
            raise pytest.UsageError(
                f"{item.nodeid} cites {len(cited)} requirements; a test may prove {MOST_ROWS_A_TEST} at most"
            )
        item.user_properties.extend(("req", identifier) for identifier in cited)


class _Recorder:
    """Folds the reports of a run into evidence, and writes it when the run was over all tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.complete = set(config.args) == set(config.getini("testpaths")) and not any(
            config.getoption(option, default=None) for option in _NARROWING
        )
        self.path = config.rootpath / EVIDENCE.name
        self.requirements: dict[str, tuple[str, ...]] = {}
        self.outcomes: dict[str, Outcome] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cited = tuple(str(value) for name, value in report.user_properties if name == "req")
        if not cited:
            return
        self.requirements[report.nodeid] = cited
        # Setup, call and teardown report in turn: the first that did not pass decides.
        if self.outcomes.get(report.nodeid, "passed") == "passed":
            self.outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.complete and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            evidence = (Evidence(node, cited, self.outcomes[node]) for node, cited in self.requirements.items())
            write_evidence(evidence, self.path)
