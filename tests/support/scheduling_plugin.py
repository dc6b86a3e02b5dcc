"""What parallel and quick runs need: a file goes to one process, slow ones first; ``-m 'not slow'`` leaves them out.

A test is slow where it starts a Prefect server, a PostgreSQL server, a browser or a campaign of real programs, or where
it kills processes by the dozen, waits for what comes back, or tries hundreds of cases. Such parts are named here; what
asks for PostgreSQL is seen by its fixtures.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

CONDUCTED: Final = "tests/flows/"
"""Its tests share a Prefect server and a runner: they go to two processes, each with one of its own."""
FIRST_HALF: Final = tuple(
    f"{CONDUCTED}test_{name}.py" for name in ("campaign_crashes", "campaigns", "resources", "submit_verb", "postgresql")
)
SLOW_PARTS: Final = (
    CONDUCTED,
    "tests/docs/test_tutorials.py",
    "tests/docs/test_pages.py",
    "tests/docs/test_site.py",
    "tests/examples/test_ccd_",
    "tests/examples/test_eso.py",
    "tests/examples/test_montage.py",
    "tests/examples/test_real_campaigns.py",
    "tests/examples/test_terapix.py",
    "tests/benchmarks/",
    "tests/engines/test_slurm_campaign.py",
    "tests/spine/test_crashes.py",
    "tests/operations/test_ingest_crashes.py",
    "tests/operations/test_audit.py",
    "tests/operations/test_bundles.py",
    "tests/operations/test_edited.py",
    "tests/planning/test_again.py",
    "tests/operations/test_recover.py",
    "tests/operations/test_slices.py",
    "tests/provenance/test_record_away.py",
    "tests/provenance/test_record_again.py",
    "tests/spine/test_mangled.py",
    "tests/spine/test_drain.py",
    "tests/config/test_any_document.py",
    "tests/examples/",
    "tests/execution/test_process.py",
    "tests/cli/test_terminal.py",
    "tests/backbone/test_adhoc_limits.py",
)
"""The longest first: whoever is left with a long file at the end works alone."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: starts servers, browsers or campaigns; left out by `make test-fast`")


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _part(item) < len(SLOW_PARTS) or _asks_for_postgresql(item):
            item.add_marker("slow")
    items.sort(key=_part)  # stable: within a part, and among all the others, the order stays


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is there
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    config.option.loadscopereorder = False  # it would sort by the number of tests, not by what they take
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _shared_by
    return scheduler


def _shared_by(node: str) -> str:
    """Return which tests go to one process with this one: those of its file, which share what is slow to make."""
    if node.startswith(CONDUCTED):
        return f"{CONDUCTED}{node.startswith(FIRST_HALF)}"
    return node.partition("::")[0]


def _part(item: pytest.Item) -> int:
    return next((at for at, part in enumerate(SLOW_PARTS) if item.nodeid.startswith(part)), len(SLOW_PARTS))


def _asks_for_postgresql(item: pytest.Item) -> bool:
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return "postgresql" in values or "postgres" in getattr(item, "fixturenames", ())
