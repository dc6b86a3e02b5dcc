"""What of a site others can read: what it says, whatever umask its operator has; also where it was made before."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.execution.journal import JournalWriter, set_aside
from tests.cli.conftest import Nightmill, nightmill
from tests.support.observatory import FILE_TYPES, deliver

__all__ = ["nightmill"]

LOOK = 'for path; do if [ -r "$path" ]; then echo "read $path"; else echo "closed $path"; fi; done'


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that everybody may enter, other than those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def fill(site: Path, access: str, nightmill: Nightmill, umask: int, file_mode: int = 0o600) -> dict[str, int]:
    """Make a site with a file, and what jobs leave; return the mode of everything in it."""
    types = site.parent / "types.yaml"
    types.write_text(FILE_TYPES)
    os.umask(umask)
    if not site.exists():
        assert nightmill("init", site, "--file-types", types).code == 0
    text = (site / "nightmill.yaml").read_text()
    (site / "nightmill.yaml").write_text(text.replace("access: private", f"access: {access}"))
    os.umask(umask)
    assert nightmill("init", site).code == 0
    [frame] = deliver(site.parent / "night", 1)
    frame.chmod(file_mode)
    os.umask(umask)
    called = nightmill("ingest", frame, "--type", "raw_science", "--origin", "raw", "--site", site)
    assert called.code == 0, called.err
    with JournalWriter(site / "spool"), JournalWriter(site / "spool") as journal:
        pass
    set_aside(journal.path)
    return {path.relative_to(site).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in [site, *site.rglob("*")]}


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(
    ("access", "folder", "file", "stored"),
    [("private", 0o700, 0o600, 0o400), ("group", 0o2770, 0o660, 0o440), ("all", 0o755, 0o644, 0o444)],
)
def test_a_site_is_as_open_as_it_says_and_no_umask_changes_it(
    tmp_path: Path, nightmill: Nightmill, access: str, folder: int, file: int, stored: int, umask: int
) -> None:
    modes = fill(tmp_path / "site", access, nightmill, umask)
    assert {modes[name] for name in (".", "spool", "scratch", "spool/recorded")} == {folder}
    assert modes[".nightmill"] == folder & ~0o007
    assert {modes[name] for name in ("nightmill.yaml", "nightmill.db")} == {file}
    assert {mode for name, mode in modes.items() if name.endswith((".jsonl", "-wal", "-shm"))} == {file}
    [name] = [name for name in modes if name.endswith(".fits")]
    assert modes[name] == stored
    above = [parent.as_posix() for parent in Path(name).parents if parent.is_relative_to("stores/backbone")]
    assert {modes[name] for name in above} == {folder}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("access", "said"), [("private", "closed"), ("all", "read")])
def test_another_user_reads_what_the_site_says(place: Path, nightmill: Nightmill, access: str, said: str) -> None:
    modes = fill(place / "site", access, nightmill, 0o000)
    paths = [str(place / "site" / name) for name in modes if not name.startswith(".nightmill")]
    argv = ["/bin/sh", "-c", LOOK, "sh", *paths]
    looked = subprocess.run(
        argv, user="nobody", group="nogroup", extra_groups=[], cwd="/", capture_output=True, text=True, check=True
    )
    assert sorted(looked.stdout.splitlines()) == sorted(f"{said} {path}" for path in paths)


def test_a_store_may_be_more_open_than_its_site(tmp_path: Path, nightmill: Nightmill) -> None:
    site, types = tmp_path / "site", tmp_path / "types.yaml"
    types.write_text(FILE_TYPES)
    assert nightmill("init", site, "--file-types", types).code == 0
    text = (site / "nightmill.yaml").read_text()
    (site / "nightmill.yaml").write_text(text.replace("url: stores/backbone", "url: ../open\n    access: all"))
    modes = fill(site, "private", nightmill, 0o077)
    assert modes["nightmill.db"] == 0o600
    found = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "open", *(tmp_path / "open").rglob("*")]
    }
    assert found.pop("cam_0001.fits") == 0o444
    assert set(found.values()) == {0o755}


def test_doctor_finds_what_is_open_and_init_closes_it(tmp_path: Path, nightmill: Nightmill) -> None:
    site = tmp_path / "site"
    fill(site, "private", nightmill, 0o077)
    (site / "nightmill.yaml").write_text((site / "nightmill.yaml").read_text().replace("access: private\n", ""))
    opened = {site: 0o755, site / "spool": 0o750, site / "nightmill.db": 0o644, site / "nightmill.yaml": 0o664}
    for path, mode in opened.items():
        path.chmod(mode)
    called = nightmill("doctor", "--site", site)
    assert called.code == 1
    wrong = [line for line in called.out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == len(opened)
    for path, mode in opened.items():
        wanted = 0o700 if path.is_dir() else 0o600
        assert f"{path} has mode {mode:o}, which is more than access: private" in called.out
        assert f"'nightmill init {site}' sets it to {wanted:o}" in called.out
    assert nightmill("init", site).code == 0
    assert nightmill("doctor", "--site", site).code == 0


def test_doctor_finds_secrets_that_stand_in_the_configuration(
    tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    monkeypatch.setenv("KEY", "k3y")
    assert nightmill("init", site).code == 0
    text = (site / "nightmill.yaml").read_text()
    text = text.replace("url: stores/backbone", "url: stores/backbone\n  far:\n    url: https://h/x?token=t0ken&a=1")
    text += "  auth: operator:s3cret\n  database: postgresql://prefect:${KEY}@host/prefect\n"
    (site / "nightmill.yaml").write_text(text)
    lines = {line.strip(): number for number, line in enumerate(text.splitlines(), start=1)}
    called = nightmill("doctor", "--site", site)
    secrets = [line for line in called.out.splitlines() if "holds a secret" in line]
    assert [line.partition(" holds")[0] for line in secrets] == [
        f"WRONG secrets: {site}/nightmill.yaml:{lines['url: https://h/x?token=t0ken&a=1']}: stores.far.url",
        f"WRONG secrets: {site}/nightmill.yaml:{lines['auth: operator:s3cret']}: server.auth",
    ]
    assert all("write ${NAME} in its place" in line for line in secrets)
    assert "t0ken" not in called.out + nightmill("init", site).out
