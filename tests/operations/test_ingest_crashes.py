"""An ingest that is killed at any instant leaves nothing half visible and nothing lost, and is simply done again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import pytest
from sqlalchemy import select, text

from nightmill.backbone.schema import FileRow, ReplicaRow
from nightmill.errors import BadFile, DatabaseAway
from nightmill.files import recognition
from nightmill.model.origin import Origin
from nightmill.operations.ingest import arrivals
from nightmill.operations.ingest.placement import Mode
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.site import Site, open_site
from tests.support.observatory import deliver, stored

FILES = 10


def start(site: Site, folder: Path, mode: str, *moment: str) -> subprocess.Popen[str]:
    """Start a process that waits for a line before it begins."""
    argv = [
        sys.executable,
        "-m",
        "tests.support.victim",
        "ingest",
        str(site.config.directory),
        str(folder),
        mode,
        *moment,
    ]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def registered(site: Site) -> dict[str, str]:
    """Return the places of all files that the catalogue knows, with their checksums."""
    query = select(ReplicaRow.path, FileRow.sha256).join(FileRow, ReplicaRow.file_id == FileRow.id)
    with site.database.reading() as session:
        return {path: sha256 for path, sha256 in session.execute(query)}


@pytest.mark.req("B21", "B23", "D03")
@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("upload", 1),
        ("upload", 6),
        ("sync", 2),
        ("reveal", 3),
        ("link", 5),
        ("settle", 1),
        ("register", 1),
        ("register", 2),
        ("commit", 1),
        ("unlink", 5),
    ],
)
def test_killed_at_any_instant(lite_site: Site, tmp_path: Path, moment: str, count: int) -> None:
    folder = tmp_path / "night"
    whole = {f"raw/20260110/{path.name}": path.read_bytes() for path in deliver(folder, FILES)}
    victim = start(lite_site, folder, "move", moment, str(count))
    victim.communicate("\n", timeout=600)
    assert victim.returncode == -signal.SIGKILL

    known = registered(lite_site)
    seen = {path: data for path, data in stored(lite_site.config.directory).items() if not path.endswith(".part")}
    assert known.keys() <= seen.keys()
    assert all(whole[path] == data for path, data in seen.items())
    left = {f"raw/20260110/{path.name}" for path in folder.iterdir()}
    assert whole.keys() - left <= known.keys()

    with open_site(lite_site.config.directory) as again:
        result = ingest(again, [folder], type="raw_science", origin=Origin.RAW, who="ada", mode=Mode.MOVE)
    assert (len(result.registered), result.refused, result.left) == (FILES - len(known), [], [])
    assert stored(lite_site.config.directory) == whole
    assert registered(lite_site).keys() == whole.keys()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_two_processes_take_in_one_folder_at_once(site: Site, tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "night"
    whole = {f"raw/20260110/{path.name}": path.read_bytes() for path in deliver(folder, 40)}
    processes = [start(site, folder, mode) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    counts = [[int(number) for number in process.communicate(timeout=600)[0].split()] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [sum(column) for column in zip(*counts, strict=True)] == [40, 40, 0]
    assert stored(site.config.directory) == whole
    assert registered(site).keys() == whole.keys()


def test_a_locked_database_loses_nothing(lite_site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    deliver(folder, 3)
    impatient = Site(lite_site.config, type(lite_site.database)(lite_site.database.url, busy_seconds=0.1))
    with impatient:
        with lite_site.database.writing() as session, pytest.raises(DatabaseAway, match=r"locked.*nothing was written"):
            session.execute(text("UPDATE store SET kind = kind"))
            ingest(impatient, [folder], type="raw_science", origin=Origin.RAW, who="ada")
        assert registered(lite_site) == {}
        result = ingest(impatient, [folder], type="raw_science", origin=Origin.RAW, who="ada")
    assert len(result.registered) == 3


def test_who_gives_up_does_not_wait_for_the_large_files_of_the_lot(
    lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = Event()

    def inspect(path: Path, *_: object, **__: object) -> Any:
        if path.name == "cam_0001.fits":
            given_up.set()
            raise KeyboardInterrupt
        given_up.wait()
        read.append(path.name)
        sleep(0.2)
        raise BadFile("it is none", reason="not_fits")

    read: list[str] = []
    monkeypatch.setattr(recognition, "open_file", inspect)
    monkeypatch.setattr(arrivals, "LARGE_BYTES", 0)
    with pytest.raises(KeyboardInterrupt):
        ingest(lite_site, deliver(tmp_path / "night", 60), type="raw_science", origin=Origin.RAW, who="ada")
    assert len(read) < 59
