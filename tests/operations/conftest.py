"""Sites for tests of what joins the parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.operations.nights import opened
from tests.support.observatory import FILE_TYPES


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """Give a new site: once on SQLite, once on PostgreSQL."""
    with _site(tmp_path, database_url) as site:
        yield site


@pytest.fixture
def lite_site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """Give a new site on SQLite, for what has nothing to do with the database."""
    with _site(tmp_path, sqlite_url) as site:
        yield site


def _site(folder: Path, url: str) -> Site:
    types = folder / "types.yaml"
    types.write_text(FILE_TYPES)
    return make_site(folder / "site", database=url, file_types=types)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Give the file that says for which exposures the second step fails."""
    path = tmp_path / "broken"
    path.write_text("2\n")
    return path


@pytest.fixture
def night(site: Site, tmp_path: Path, broken: Path) -> Iterator[Site]:
    """Give a site whose campaign has three jobs, of which one failed, and a stage that took from the others."""
    with opened(site, tmp_path, broken) as ready:
        yield ready
