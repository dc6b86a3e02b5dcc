"""One wrong file type stops only the verbs that need file types."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill, take_in
from tests.cli.test_operators import PIPELINE

ASKING = (
    ("sql", "SELECT name FROM file"),
    ("find",),
    ("find", "--type", "raw_science", "--where", "exposure == 1"),
    ("status",),
    ("show", "cam_0001.fits"),
    ("why", "cam_0001.fits"),
    ("lineage", "cam_0001.fits"),
    ("calib", "list"),
    ("record",),
)
WRONG = {
    "one type": ("  note: {fromat: any}\n", "unknown key file_types.note.fromat (did you mean 'format'?)"),
    "no YAML": ("  note: {\n", "it is not YAML"),
}


@pytest.fixture(params=WRONG)
def told(request: pytest.FixtureRequest, folder: Path, nightmill: Nightmill, tmp_path: Path) -> str:
    """Spoil the file types of a site that has a file, and give where, and what is to be told of it."""
    take_in(nightmill, tmp_path / "night", 1)
    path = folder / "file_types.yaml"
    text = path.read_text()
    assert text.endswith("  note: {}\n")
    written, message = WRONG[request.param]
    path.write_text(text.replace("  note: {}\n", written))
    line = text.count("\n") + (request.param == "no YAML")
    return f"{path}:{line}: {message}"


def test_verbs_that_need_no_file_types_go_on_and_warn(told: str, nightmill: Nightmill) -> None:
    for verb in ASKING:
        called = nightmill(*verb)
        assert called.code == 0, (verb, called.err)
        assert called.err.startswith(f"warning: {told}"), verb
        assert called.out.count("cam_0001.fits") or verb[0] in ("status", "calib", "record")
    assert nightmill("find", "--type", "raw_sciense").out.splitlines()[1:] == []


def test_verbs_that_need_them_are_refused_with_file_and_line(
    told: str, nightmill: Nightmill, folder: Path, tmp_path: Path
) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text("campaign: first\npipeline: pipeline.yaml\n")
    ingest = ("ingest", tmp_path / "night", "--type", "raw_science", "--origin", "raw")
    for verb in (ingest, ("plan", "first.yaml"), ("submit", "first.yaml")):
        called = nightmill(*verb)
        assert (called.code, called.out) == (2, ""), verb
        assert called.err.startswith(f"nightmill: {told}"), verb


def test_doctor_tells_and_looks_further(told: str, nightmill: Nightmill) -> None:
    called = nightmill("doctor")
    assert called.code == 1
    assert f"WRONG file types: {told}" in called.out
    assert "well  database: " in called.out
