"""``nightmill doctor`` where there is no room: said, by what was tried and by what is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from nightmill.cli.render import room as _room
from nightmill.config.site import load_site
from nightmill.execution.sealing import make_key
from tests.cli.conftest import Nightmill
from tests.support.mounts import fill, make_read_only, small_disk

PLACES = ["scratch", "spool", "store backbone"]


@pytest.fixture
def disks(folder: Path) -> Iterator[dict[str, Path]]:
    """Give a disk of its own for each folder of the site, by what the doctor calls them."""
    config = load_site(folder)
    places = dict(zip(PLACES, (config.scratch, config.spool, folder / "stores" / "backbone"), strict=True))
    with ExitStack() as stack:
        for place in places.values():
            place.rmdir()
            stack.enter_context(small_disk(place, size="4m,nr_inodes=200,mode=700"))
        yield places


def wrong(nightmill: Nightmill) -> dict[str, str]:
    told = nightmill("doctor", "--json")
    found = {each["what"]: each["seen"] for each in told.json if not each["well"]}
    assert told.code == (1 if found else 0)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_without_room_is_not_well(nightmill: Nightmill, disks: dict[str, Path], place: str) -> None:
    assert wrong(nightmill) == {}
    fill(disks[place])
    assert wrong(nightmill) == {place: f"{disks[place]} cannot be written: No space left on device"}
    filler = disks[place] / "filler"
    os.truncate(filler, filler.stat().st_size - 2 * _room.BLOCK_BYTES)
    assert wrong(nightmill)[place].startswith(f"{disks[place]} has too little room, make some: 0.0")
    filler.unlink()
    make_read_only(disks[place])
    assert wrong(nightmill)[place] == f"{disks[place]} cannot be written: Read-only file system"


@pytest.mark.req("REQ-0036")
def test_status_tells_of_a_scratch_or_a_spool_that_is_nearly_full(nightmill: Nightmill, disks: dict[str, Path]) -> None:
    assert "nearly full" not in nightmill("status").err
    fill(disks["scratch"])
    told = nightmill("status")
    assert f"nearly full: scratch: {disks['scratch']} has too little room, make some: 0.00 of 0.00 GiB free" in told.err
    assert (told.code, "nearly full: s" in nightmill("status", "--json").err) == (0, True)


def test_a_folder_without_inodes_is_not_well(nightmill: Nightmill, disks: dict[str, Path]) -> None:
    spool = disks["spool"]
    for number in range(os.statvfs(spool).f_ffree - 5):
        (spool / f"{number}.txt").touch()
    assert "inodes (wanted: " in wrong(nightmill)["spool"]


def test_a_database_that_cannot_be_written_is_not_well(database_url: str) -> None:
    database = Database(database_url)
    database.create()
    assert _room.writable(database, "here").well
    database.close()
    if database.is_sqlite:
        read_only = Database(f"sqlite:///file:{database.engine.url.database}?mode=ro&uri=true")
    else:
        read_only = Database(f"{database_url}&options=-c%20default_transaction_read_only%3Don")
    found = _room.writable(read_only, "here")
    read_only.close()
    assert not found.well
    assert "cannot be written" in found.seen


def test_a_key_with_which_nobody_can_sign_is_told(folder: Path, nightmill: Nightmill) -> None:
    key = folder / ".nightmill" / "signing.key"
    assert "signing key" not in wrong(nightmill)
    key.write_text("spoiled")
    assert "this is not a private key without a password; " in wrong(nightmill)["signing key"]
    key.unlink()
    make_key(key)
    assert "the site does not know it: 'nightmill init" in wrong(nightmill)["signing key"]
