"""Sites for tests of what joins the parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.operations.init import make_site
from nightmill.operations.site import Site
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
