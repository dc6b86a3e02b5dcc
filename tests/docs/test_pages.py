"""What the second tutorial and the how-to guides show is what happens when it is typed.

The guides begin where the second tutorial ends, in its site and with its server, before it is stopped; a guide that
begins elsewhere says so in a comment: ``<!-- begins: empty -->`` (an empty folder) or ``<!-- begins: postgresql -->``
(the same, with the URL of an empty database in ``NIGHTMILL_DATABASE``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Page, pages
from tests.docs.shell import Shell, stop_servers

TUTORIAL = Page(DOCS / "tutorial" / "2-your-own-pipeline.md")
END = "## Stop the site"
GUIDES = [page for page in pages(DOCS / "how-to") if any(fence.info == "console" for fence in page.fences)]


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory, prefect_template: Path) -> Iterator[Shell]:
    """Give a shell in the site of the second tutorial, which was followed up to its last section."""
    shell = Shell(tmp_path_factory.mktemp("tutorial"), prefect=prefect_template)
    try:
        shell.follow(TUTORIAL, until=END)
        yield shell
    finally:
        stop_servers(shell)


@pytest.fixture
def after_tutorial(tutorial: Shell) -> Shell:
    """Give a new shell there, with the server up."""
    site = tutorial.folder
    shell = Shell(tutorial.home)
    shell.run(f"cd {site} && nightmill server start")
    return shell


@pytest.fixture
def postgresql(tmp_path: Path, prefect_template: Path, empty_postgres_url: str) -> Iterator[Shell]:
    """Give a shell in an empty folder, and the URL of an empty database in a variable."""
    shell = Shell(tmp_path, {"NIGHTMILL_DATABASE": empty_postgres_url}, prefect_template)
    yield shell
    stop_servers(shell)


def beginning(page: Page) -> str:
    match = re.search(r"<!-- begins: (\w+) -->", page.text)
    return match[1] if match else "after_tutorial"


def test_second_tutorial(tutorial: Shell) -> None:
    site = tutorial.folder
    tutorial.follow(TUTORIAL, after=END)
    assert sorted(path.name for path in (site / "stores/backbone").rglob("*_stack_*.fits")) == [
        "tinycam_1_stack_c0001a01.fits",
        "tinycam_2_stack_c0001a01.fits",
    ]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.path.stem))
def test_guide(page: Page, request: pytest.FixtureRequest) -> None:
    shell: Shell = request.getfixturevalue(beginning(page))
    shell.follow(page)
