"""What the second tutorial, the how-to guides and the pages about examples show is what happens when it is typed.

The guides begin where the second tutorial ends, in its site and with its server, before it is stopped; a page that
begins elsewhere says so in a comment: ``<!-- begins: empty -->`` (an empty folder), ``<!-- begins: postgresql -->``
(the same, with the URL of an empty database in ``NIGHTMILL_DATABASE``), ``<!-- begins: s3 -->`` (the same, with a
server of S3 that has the bucket ``survey``, its place and its keys in ``S3_ENDPOINT``, ``S3_KEY`` and ``S3_SECRET``),
``<!-- begins: clone -->`` (a folder that has ``examples``, as a clone of the project), ``<!-- begins: slurm -->`` (an
empty folder, and a Slurm cluster), or ``<!-- begins: far -->`` (an empty folder, and a host ``archive`` that lets one
in by SSH and has an empty folder ``nightmill``). ``<!-- needs: PROGRAM PROGRAM -->`` names what must be installed.

What they type is ``nightmill`` without its imports (:mod:`tests.support.warm`); the first tutorial types the installed
program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Page, pages
from tests.docs.shell import Shell, stop_servers
from tests.examples.programs import needs
from tests.support.requirements import ROOT
from tests.support.seaweed import KEY, SECRET, SeaweedServer
from tests.support.slurm import SlurmUnavailable, running_slurm
from tests.support.sshd import USER, running_sshd
from tests.support.warm import commands

TUTORIAL = Page(DOCS / "tutorial" / "2-your-own-pipeline.md")
END = "## Stop the site"
GUIDES = [page for page in pages(DOCS / "how-to") if any(fence.info == "console" for fence in page.fences)]
EXAMPLES = list(pages(DOCS / "examples"))


@pytest.fixture(scope="module")
def warm() -> Iterator[Path]:
    """Give the folder of a ``nightmill`` that has been imported."""
    with commands() as folder:
        yield folder


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory, prefect_template: Path, warm: Path) -> Iterator[Shell]:
    """Give a shell in the site of the second tutorial, which was followed up to its last section."""
    shell = Shell(tmp_path_factory.mktemp("tutorial"), prefect=prefect_template, warm=warm)
    try:
        shell.follow(TUTORIAL, until=END)
        yield shell
    finally:
        stop_servers(shell)


@pytest.fixture
def after_tutorial(tutorial: Shell) -> Shell:
    """Give a new shell there, with the server up."""
    site = tutorial.folder
    shell = Shell(tutorial.home, warm=tutorial.warm)
    shell.run(f"cd {site} && nightmill server start")
    return shell


@pytest.fixture
def empty(tmp_path: Path, prefect_template: Path, warm: Path) -> Iterator[Shell]:
    """Give a shell in an empty folder."""
    shell = Shell(tmp_path, prefect=prefect_template, warm=warm)
    yield shell
    stop_servers(shell)


@pytest.fixture
def postgresql(tmp_path: Path, prefect_template: Path, empty_postgres_url: str, warm: Path) -> Iterator[Shell]:
    """Give a shell in an empty folder, and the URL of an empty database in a variable."""
    shell = Shell(tmp_path, {"NIGHTMILL_DATABASE": empty_postgres_url}, prefect_template, warm)
    yield shell
    stop_servers(shell)


@pytest.fixture
def slurm(tmp_path: Path, prefect_template: Path, warm: Path) -> Iterator[Shell]:
    """Give a shell in an empty folder, on a host that has the commands of a Slurm cluster."""
    try:
        with running_slurm() as cluster:
            if not cluster.limits_memory:
                raise SlurmUnavailable("the kernel here has no memory controller that Slurm can use")
            shell = Shell(tmp_path, {"SLURM_CONF": cluster.environment["SLURM_CONF"]}, prefect_template, warm)
            yield shell
            stop_servers(shell)
    except SlurmUnavailable as unavailable:
        pytest.skip(str(unavailable))


@pytest.fixture
def s3(tmp_path: Path, prefect_template: Path, seaweed: SeaweedServer, warm: Path) -> Iterator[Shell]:
    """Give a shell in an empty folder, and a server of S3 in variables."""
    server = {"S3_ENDPOINT": seaweed.endpoint, "S3_KEY": KEY, "S3_SECRET": SECRET}
    shell = Shell(tmp_path, server, prefect_template, warm)
    yield shell
    stop_servers(shell)


@pytest.fixture
def far(empty: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Give a shell in an empty folder, whose user knows a host that keeps files."""
    there, own = tmp_path_factory.mktemp("there"), empty.home / ".ssh"
    (there / "nightmill").mkdir()
    own.mkdir(mode=0o700)
    with running_sshd(tmp_path_factory.mktemp("sshd"), f"Subsystem sftp internal-sftp -d {there}") as sshd:
        told = {"HostName": "127.0.0.1", "Port": sshd.port, "User": USER, "IdentityFile": sshd.folder / "id"}
        (own / "config").write_text("Host archive\n" + "".join(f"  {key} {value}\n" for key, value in told.items()))
        (own / "known_hosts").write_text((sshd.folder / "known_hosts").read_text())
        yield empty


@pytest.fixture
def clone(empty: Shell) -> Shell:
    """Give a shell in a folder that has the examples, as a clone of the project has them."""
    (empty.home / "examples").symlink_to(ROOT / "examples")
    return empty


def beginning(page: Page) -> str:
    match = re.search(r"<!-- begins: (\w+) -->", page.text)
    return match[1] if match else "after_tutorial"


def shown(page: Page) -> dict[str, list[str]]:
    """Return the lines that a page shows of files of the project, in its order, blank ones left out."""
    files: dict[str, list[str]] = {}
    for fence in page.fences:
        _language, marked, path = fence.info.partition(" of=")
        if marked:
            files.setdefault(path, []).extend(line for line in fence.text.splitlines() if line.strip())
    return files


def test_second_tutorial(tutorial: Shell) -> None:
    site = tutorial.folder
    tutorial.follow(TUTORIAL, after=END)
    assert sorted(path.name for path in (site / "stores/backbone").rglob("*_stack_*.fits")) == [
        "tinycam_1_stack_c0001a01.fits",
        "tinycam_2_stack_c0001a01.fits",
    ]


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: str(page.path.stem))
def test_page_about_an_example_shows_its_files_line_by_line(page: Page) -> None:
    files = shown(page)
    assert files
    for path, lines in files.items():
        assert lines == [line for line in (ROOT / path).read_text().splitlines() if line.strip()], path


@pytest.mark.parametrize("page", [*GUIDES, *EXAMPLES], ids=lambda page: str(page.path.stem))
def test_guide(page: Page, request: pytest.FixtureRequest) -> None:
    for programs in re.findall(r"<!-- needs: (.*) -->", page.text):
        needs(*programs.split())
    shell: Shell = request.getfixturevalue(beginning(page))
    shell.follow(page)
