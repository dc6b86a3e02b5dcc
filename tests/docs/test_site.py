"""The documentation can be built into a site, without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from tests.docs.pages import DOCS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the site, built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--nitpicky", "--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", str(folder / ".doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder)]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def said(page: Path) -> str:
    """Return what a reader sees of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))).split())


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("api", "nightmill.open_site(directory: Path | str | None = None) → Site"),
        ("api", "Its folder; by default that of NIGHTMILL_SITE"),
        ("api-plugins", "class nightmill.model.ports.Stager"),
        ("api-testing", "class nightmill.testing.bench.PipelineBench"),
        ("api-models", "class nightmill.model.order.JobOrder"),
        ("api-models", "inputs: tuple[OrderInput, ...]"),
    ],
)
def test_api_is_told(site: Path, page: str, told: str) -> None:
    assert told in said(site / "reference" / f"{page}.html")


def test_pages_are_found_by_search(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert (site / "search.html").exists()
    assert {"how-to/ingest-files", "reference/api"} <= set(re.findall(r'"([a-z0-9/-]+)"', index))
