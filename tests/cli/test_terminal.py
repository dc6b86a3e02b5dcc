"""Nothing that comes from outside gives orders to the terminal of whoever looks at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.cli.render.output import plain, plain_line
from tests.cli.conftest import Nightmill
from tests.cli.test_bad_input import RAW
from tests.support.observatory import deliver, frame

EVIL = "x\x1b]0;owned\x07\x9b2J\nrefused (fine): \u202eall.fits"
BYTES = os.fsdecode(b"latin-\xe9.fits")


def test_every_text_is_printed_through_one_door() -> None:
    folder = Path(__file__).parents[2] / "nightmill" / "cli"
    sources = {path.name: path.read_text() for path in folder.glob("*.py")}
    found = {name for name, text in sources.items() if re.search(r"typer\.(echo|secho)\(|\bprint\(", text)}
    assert found <= {"_output.py", "_watch.py", "__init__.py"}, "use nightmill.cli.render.output.echo"


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert plain("a\x1b[31mb\x9bc\x7f\r\n\td") == "a\\x1b[31mb\\x9bc\\x7f\\r\n\td"
    assert plain_line("a\nb") == "a\\nb"
    assert plain(os.fsdecode(b"\xe9")) == "\\xe9"
    assert plain("\u202egpj.exe") == "\\u202egpj.exe"
    assert plain("ñ 星") == "ñ 星"


@pytest.mark.req("X36")
def test_names_with_control_characters_reach_no_terminal_and_are_exact_in_json(
    each_folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    night = tmp_path / "night"
    deliver(night, 1)
    for name in (EVIL, BYTES):
        (night / name).write_bytes(b"no image")
    called = nightmill("ingest", night, *RAW)
    assert called.code == 1
    told = [
        called,
        nightmill("find", "--refused"),
        nightmill("why", EVIL),
        nightmill("sql", "SELECT path, message FROM refusal"),
        nightmill("ingest", night / EVIL, *RAW, "--json"),
        nightmill("find", "--refused", "--json"),
        nightmill("show", EVIL),
    ]
    for each in told:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", each.out + each.err)
    assert len(called.err.splitlines()) == 2, "no name makes a line of its own"
    assert told[4].json["refused"][0]["path"] == str(night / EVIL)
    assert {row["path"] for row in told[5].json} == {str(night / EVIL), f"{night}/latin-\\xe9.fits"}
    assert nightmill("ingest", night / BYTES, *RAW, "--json").json["refused"][0]["path"] == str(night / BYTES)


def test_on_a_terminal_a_table_that_does_not_fit_is_told_file_by_file(folder: Path, tmp_path: Path) -> None:
    night = tmp_path / "night"
    deliver(night, 1)
    (night / "HAWKI.2013-01-08T00:00:00.000.fits").write_bytes(frame(2))
    lines = on_terminal(80, "ingest", night, *RAW) and on_terminal(80, "find")
    assert lines == [
        "HAWKI.2013-01-08T00:00:00.000.fits",
        "  type: raw_science  origin: raw",
        "  data ID: instrument=cam, night=20260110, exposure=2, detector=1",
        "  begins at: 2026-01-11 03:12:45  bytes: 8640  store: backbone",
        "cam_0001.fits",
        "  type: raw_science  origin: raw",
        "  data ID: instrument=cam, night=20260110, exposure=1, detector=1",
        "  begins at: 2026-01-11 03:12:45  bytes: 8640  store: backbone",
    ]
    wide = on_terminal(200, "find")
    assert wide[0].split()[:3] == ["name", "type", "origin"]
    assert wide[2].split()[:3] == ["HAWKI.2013-01-08T00:00:00.000.fits", "raw_science", "raw"]


def on_terminal(columns: int, *arguments: object) -> list[str]:
    """Return what a verb shows on a terminal of so many columns, line by line."""
    master, terminal = os.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "nightmill", *map(str, arguments)],
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "xterm"},
        )
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # how Linux says that nobody has the terminal open any more
                break
            if not part:
                break
            shown += part
        process.wait(60)
    finally:
        os.close(master)
    told = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    return [line.rstrip() for line in told.splitlines() if line.strip()]
