from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightmill import __version__
from nightmill.cli import VERBS
from tests.cli.conftest import Nightmill

HEAVY = ("prefect", "astropy", "sqlalchemy", "numpy", "pydantic", "psutil")
LOOK = f"""
import sys
from nightmill.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(f" {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(nightmill: Nightmill, verb: str) -> None:
    called = nightmill(verb, "--help")
    assert called.code == 0
    assert f"nightmill {verb}" in called.out


def test_a_mistyped_verb_is_guessed(nightmill: Nightmill) -> None:
    called = nightmill("fnid")
    assert (called.code, called.out) == (2, "")
    assert called.err == "nightmill: no command named 'fnid' (did you mean 'find'?); see 'nightmill --help'\n"


def test_the_version_is_told(nightmill: Nightmill) -> None:
    assert nightmill("--version").out == f"nightmill {__version__}\n"


def test_usage_errors_end_with_code_2(nightmill: Nightmill) -> None:
    called = nightmill("ingest")
    assert called.code == 2
    assert "Missing" in called.err


def test_without_a_site_the_remedy_is_told(
    nightmill: Nightmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)
    called = nightmill("find")
    assert called.code == 2
    assert "make one with nightmill init DIR" in called.err


def test_a_database_that_is_away_ends_with_code_3(nightmill: Nightmill, folder: Path) -> None:
    url = "postgresql+psycopg://nobody:secret@127.0.0.1:1/none"
    text = (folder / "nightmill.yaml").read_text().splitlines()
    lines = [f"database: {url}" if line.startswith("database:") else line for line in text]
    (folder / "nightmill.yaml").write_text("\n".join(lines))
    called = nightmill("find")
    assert called.code == 3
    assert "cannot be used now" in called.err
    assert "secret" not in called.err


def test_an_older_schema_is_refused_with_the_remedy(nightmill: Nightmill, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nightmill.db").unlink()
    called = nightmill("find")
    assert called.code == 2
    assert "has no catalogue in it" in called.err
    assert "nightmill init" in called.err


def test_a_pipe_that_closes_is_no_error(folder: Path) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT i FROM n"
    program = f"from nightmill.cli import main; main(['sql', '{numbers}'])"
    command = f'{sys.executable} -c "{program}" | head -2'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, check=False)
    assert done.stdout == "i\n1\n"
    assert "Traceback" not in done.stderr
