"""``nightmill doctor --deep``, as it is typed."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Nightmill, take_in


def test_what_was_compared_is_told_with_what_contradicts(
    each_folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    take_in(nightmill, tmp_path / "night", 1)
    well = nightmill("doctor", "--deep")
    assert well.code == 0, well.out
    for part in ("rows of the catalogue", "processes and scratch", "journals", "stores"):
        assert f"well  {part}: compared, no contradiction\n" in well.out
    assert "well  flow runs: Prefect was not asked: its server is stopped" in well.out

    (stored,) = (each_folder / "stores" / "backbone").rglob("cam_0001.fits")
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    assert nightmill("doctor", "--deep").code == 0, "a change that leaves the size is seen by those who read"
    (stored.parent / "stranger").write_bytes(b"1")
    told = nightmill("doctor", "--deep", "--checksums", "--json")
    found = {each["what"]: each for each in told.json if not each["well"]}
    assert (told.code, sorted(found)) == (1, ["file_unnamed", "replica_changed"])
    assert found["replica_changed"]["where"].endswith("cam_0001.fits")
    assert "bring back the right bytes" in found["replica_changed"]["remedy"]
    keys = {"what", "well", "seen", "where", "since", "remedy", "ends_at", "wall_seconds", "engine", "place"}
    assert set(found["file_unnamed"]) == keys


def test_checksums_go_with_deep(folder: Path, nightmill: Nightmill) -> None:
    called = nightmill("doctor", "--checksums")
    assert (called.code, "--checksums goes with --deep; add --deep" in called.err) == (2, True)
