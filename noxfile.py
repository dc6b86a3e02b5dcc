"""The tests on every Python that nightmill supports, and with the lowest versions of what it needs.

``python -m nox`` runs them all, ``python -m nox --session tests-3.13 -- -m "not slow"`` the quick ones on one. CI runs
3.11, by ``make test``.
"""

from __future__ import annotations

from typing import Final

import nox

PROJECT: Final = nox.project.load_toml("pyproject.toml")
PYTHONS: Final = nox.project.python_versions(PROJECT)
TESTED: Final = (
    "-e.[postgres,examples]",
    *nox.project.dependency_groups(PROJECT, "test", "docs", "bench", "dev"),
)
nox.options.default_venv_backend = "uv|virtualenv"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests with the versions that are tested together."""
    session.install(*TESTED, "--constraint", "constraints.txt")
    _test(session)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that ``pyproject.toml`` allows."""
    session.install(*TESTED, "--resolution", "lowest-direct")
    _test(session)


def _test(session: nox.Session) -> None:
    session.run("python", "-m", "pytest", "-n", "logical", "--maxprocesses", "8", *session.posargs)
