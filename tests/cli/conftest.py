"""The command line as tests call it, and a site with a small camera."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nightmill.cli import main
from tests.support.observatory import FILE_TYPES, deliver, meet_steps


@dataclass(frozen=True)
class Called:
    """What a call of nightmill came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Nightmill = Callable[..., Called]


def describe(folder: Path, types: str, pipeline: str, campaign: str = "", *, at: str = "pipeline.yaml") -> None:
    """Write a campaign into the folder of a site, with its pipeline and the file types that this needs."""
    with (folder / "file_types.yaml").open("a") as file:
        file.write(types)
    (folder / at).parent.mkdir(exist_ok=True)
    (folder / at).write_text(pipeline)
    (folder / "first.yaml").write_text(campaign or f"campaign: first\npipeline: {at}\n")


def take_in(nightmill: Nightmill, folder: Path, frames: int) -> None:
    """Have so many frames delivered, and taken in."""
    deliver(folder, frames)
    called = nightmill("ingest", folder, "--type", "raw_science", "--origin", "raw")
    assert called.code == 0, called.err


@pytest.fixture
def nightmill(capsys: pytest.CaptureFixture[str]) -> Nightmill:
    """Give what calls nightmill in this process, as its console script does."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Called(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def folder(tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> Path:
    """Give the folder of a new site on SQLite, and make it the working folder."""
    return _init(tmp_path, nightmill, monkeypatch, sqlite_url)


@pytest.fixture
def each_folder(tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Path:
    """Give the folder of a new site, once on SQLite and once on PostgreSQL, and make it the working folder."""
    return _init(tmp_path, nightmill, monkeypatch, database_url)


def _init(tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch, url: str) -> Path:
    types = tmp_path / "types.yaml"
    types.write_text(FILE_TYPES)
    called = nightmill("init", tmp_path / "site", "--database", url, "--file-types", types)
    assert called.code == 0, called.err
    meet_steps(tmp_path / "site")
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    monkeypatch.chdir(tmp_path / "site")
    return tmp_path / "site"
