"""A journal that was set apart is seen by whoever looks, and holds up nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill


@pytest.fixture
def journal(folder: Path) -> Path:
    """Give a journal that nobody can read, in the spool of a site."""
    path = folder / "spool" / "20260101T000000000000-node7-1.jsonl"
    path.write_text("neither header\nnor entries\n")
    return path


def test_record_tells_it_once_and_ends_with_1(journal: Path, nightmill: Nightmill) -> None:
    called = nightmill("record")
    apart = journal.parent / "quarantine" / journal.name
    assert called.code == 1
    assert called.err.startswith(f"set apart: journal {apart}: line 1: it is not a journal entry: ")
    assert called.err.endswith(
        "; mend the line or delete it, and move the file back into"
        f" {journal.parent}; or remove the file: attempts that it left open are lost then, and can be rerun\n"
    )
    assert (nightmill("record").code, apart.exists(), journal.exists()) == (0, True, False)


def test_status_and_doctor_tell_it_as_long_as_it_lies_there(journal: Path, nightmill: Nightmill) -> None:
    for _ in range(2):
        status = nightmill("status")
        assert (status.code, "set apart: journal" in status.err) == (0, True)
    doctor = nightmill("doctor", "--json")
    [finding] = [each for each in doctor.json if each["what"] == "journals"]
    assert (doctor.code, finding["well"]) == (1, False)
    assert finding["seen"].startswith("all recorded; set apart: journal ")
    for path in (journal.parent / "quarantine").iterdir():
        path.unlink()
    assert "set apart" not in nightmill("status").err
