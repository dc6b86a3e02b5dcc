"""A shell is told names, at once, and nothing else: what it asks leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nightmill.backbone.schema import CampaignRow, PlanRow, SiteRow
from nightmill.cli import VERBS
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill

NOW = datetime(2026, 1, 10, tzinfo=UTC)
LOOK = """
import os, sys
from nightmill.cli import main
for words in ("st", "status n", "find --type raw", "show a/"):
    os.environ.update(COMP_WORDS=f"nightmill {words}", COMP_CWORD=str(len(words.split())))
    try:
        main()
    except SystemExit:
        pass
print([name for name in ("prefect", "sqlalchemy") if name in sys.modules])
"""
Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Give what asks as bash does, and returns what would be offered for the last word, which may be empty."""

    def ask(typed: str) -> list[str]:
        words = typed.split(" ")
        monkeypatch.setenv("_NIGHTMILL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "\n".join(["nightmill", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        called = nightmill()
        monkeypatch.delenv("_NIGHTMILL_COMPLETE")
        assert called.err == ""
        return called.out.split()

    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    return ask


def traces(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file below a folder, with when it was changed and how long it is."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def campaign(name: str, site_id: int | None) -> CampaignRow:
    return CampaignRow(
        site_id=site_id,
        name=name,
        pipeline="p",
        pipeline_version="1",
        definition={},
        sha256="",
        submitted_at=NOW,
        submitted_by="me",
    )


@pytest.fixture
def known(each_folder: Path) -> Path:
    """Give a site with three campaigns, one of which is planned, beside another site of its catalogue."""
    with open_site(each_folder) as site, site.database.writing() as session:
        other = SiteRow(name="other", first_seen=NOW)
        session.add(other)
        session.flush()
        rows = [campaign(name, site.database.site_id) for name in ("night-1", "night-2", "it's")]
        session.add(campaign("night-of-others", other.id))
        session.add_all(rows)
        session.flush()
        planned = {"stage": "clean", "position": 0, "revision": 1, "sha256": "", "watermark": 0, "common": {}}
        session.add(PlanRow(campaign_id=rows[0].id, **planned, sealed_at=NOW))
    return each_folder


def test_names_of_the_site_are_completed_without_a_trace(known: Path, complete: Complete) -> None:
    wanted = {
        "status ": ["it's", "night-1", "night-2"],
        "status night": ["night-1", "night-2"],
        "rerun i": ["it's"],
        "rerun it\\'": ["it's"],
        "show n": ["night-1", "night-2"],
        "show night-1/": ["night-1/clean/"],
        "show night-2/": [],
        "find --type raw_": ["raw_bias", "raw_science"],
        "ingest x --store b": ["backbone"],
        "ingest x --store q": [],
        "calib list --set ": [],
    }
    before = traces(known)
    assert {typed: complete(typed) for typed in wanted} == wanted
    assert traces(known) == before


def test_a_site_may_be_named(folder: Path, tmp_path: Path, complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete(f"find --site {folder} --type raw_s") == ["raw_science"]


def test_nothing_is_said_where_there_is_no_site(
    tmp_path: Path, complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for typed in ("status ", "find --type ", "ingest x --store ", "nothing x", "show x/", "calib list --set x"):
        assert complete(typed) == [], typed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///nothing.db",
        "sqlite:///nightmill.yaml",
        "postgresql+psycopg://nobody:secret@127.0.0.1:1/none",
        "mysql://nothing",
    ],
)
def test_a_database_that_is_away_completes_nothing_and_is_not_made(folder: Path, complete: Complete, url: str) -> None:
    file = folder / "nightmill.yaml"
    lines = [f"database: {url}" if line.startswith("database:") else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines))
    before = traces(folder)
    assert complete("status ") == []
    assert traces(folder) == before


def test_a_database_in_use_is_read_as_it_is(folder: Path, complete: Complete) -> None:
    with open_site(folder) as site, site.database.writing() as session:
        session.add(campaign("recorded", site.database.site_id))
        session.commit()
        assert complete("status ") == ["recorded"]


def test_completing_imports_neither_prefect_nor_sqlalchemy(folder: Path) -> None:
    asked = os.environ | {"_NIGHTMILL_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=folder, env=asked, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split("\n")[-2:], done.stderr) == (["[]", ""], "")
    assert {"status", "raw_science"} <= set(done.stdout.split())


def test_verbs_and_choices_are_completed(complete: Complete) -> None:
    assert complete("") == list(VERBS)
    assert complete("--version ") == list(VERBS)
    assert complete("re") == [verb for verb in VERBS if verb.startswith("re")]
    assert complete("calib w") == ["withdraw"]
    assert complete("schema p") == ["pipeline"]
    assert complete("find --refu") == ["--refused"]


@pytest.mark.parametrize(
    ("shell", "told"),
    [("bash", "complete -o default -F"), ("zsh", "#compdef nightmill"), ("fish", "complete --command nightmill")],
)
def test_scripts_are_shown_and_installed(
    nightmill: Nightmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, told: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    shown = nightmill("--show-completion")
    assert (shown.code, shown.err) == (0, "")
    assert told in shown.out
    assert "_NIGHTMILL_COMPLETE" in shown.out
    assert nightmill("--install-completion").code == 0
    installed = [path for path in tmp_path.rglob("*nightmill*") if path.is_file()]
    assert [shown.out.strip() in path.read_text() for path in installed] == [True]


def test_bash_itself_completes(folder: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    script = nightmill("--show-completion").out
    typed = f"""{script}
    nightmill() {{ {sys.executable} -m nightmill; }}
    export -f nightmill
    COMP_WORDS=(nightmill find --type raw_s) COMP_CWORD=3
    _nightmill_completion {Path(sys.executable).with_name("nightmill")}
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", typed], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("raw_science\n", "")
