"""Real journals, mangled in every way: whatever they say then, no registered byte changes, and a drain ends."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import FileRow, ReplicaRow
from nightmill.backbone.work import leases
from nightmill.execution.claims import CLAIMS
from nightmill.execution.journal import journals
from nightmill.operations.drain import drain
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.spine.test_forged import GONE, order_of, raw_file
from tests.support.backbone import NOW, dump, issue
from tests.support.orders import Bench

ROUNDS = 60
Lines = list[bytes]


def cut(lines: Lines, chance: random.Random) -> Lines:
    return lines[: chance.randrange(len(lines))]


def tear(lines: Lines, chance: random.Random) -> Lines:
    whole = b"\n".join(lines)
    return whole[: chance.randrange(len(whole))].split(b"\n")


def drop(lines: Lines, chance: random.Random) -> Lines:
    at = chance.randrange(len(lines))
    return lines[:at] + lines[at + 1 :]


def double(lines: Lines, chance: random.Random) -> Lines:
    at = chance.randrange(len(lines))
    return [*lines, lines[at]]


def swap(lines: Lines, chance: random.Random) -> Lines:
    mixed = list(lines)
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    mixed[first], mixed[second] = mixed[second], mixed[first]
    return mixed


def spoil(lines: Lines, chance: random.Random) -> Lines:
    at = chance.randrange(len(lines))
    bad = bytearray(lines[at])
    bad[chance.randrange(len(bad))] = chance.randrange(32, 127)
    return [*lines[:at], bytes(bad), *lines[at + 1 :]]


def lie(lines: Lines, chance: random.Random) -> Lines:
    """Change what a key says, in one line or in all: digests, places, names, attempts, fates."""
    key = chance.choice(["sha256", "path", "store", "name", "number", "unit", "fate", "state", "step", "role", "pid"])
    values = {match for line in lines for match in re.findall(rb'"%s":("[^"]*"|-?\d+)' % key.encode(), line)} | {
        b'"raw/night.fits"',
        b'"night.fits"',
        b'"quicklook"',
        b'"lost"',
        b'"failed"',
        b"2",
        b"99999999999999999999",
    }
    old, new = chance.choice(sorted(values)), chance.choice(sorted(values))
    at = chance.choice([None, *range(len(lines))])
    return [
        line.replace(b'"%s":%s' % (key.encode(), old), b'"%s":%s' % (key.encode(), new)) if at in (None, here) else line
        for here, line in enumerate(lines)
    ]


WAYS: list[Callable[[Lines, random.Random], Lines]] = [cut, tear, drop, double, swap, spoil, lie, lie, lie]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Give a site with a raw file, a recorded attempt, and two that a dead process left open."""
    bench = Bench(tmp_path / "site")
    with make_site(bench.root) as site:
        raw_file(site, bench)
        orders = [order_of(bench, unit) for unit in (1, 2, 3)]
        site.database.write(lambda session: issue(session, orders[0]))
        bench.run_one(orders[0])
        drain(site)
        lease = site.database.write(lambda session: leases.take(session, GONE, flow_run_id=None, now=NOW))
        site.database.write(lambda session: issue(session, *orders[1:], lease_id=lease))
        bench.run(*orders[1:])
        yield site


@pytest.mark.req("X35")
def test_no_mangled_journal_changes_a_registered_file(site: Site, tmp_path: Path) -> None:
    root, original = site.config.directory, tmp_path / "original"
    before = registered(site)
    assert len(before) == 4, "a raw file, and two outputs and the log of an attempt"
    paths = list(journals(site.config.spool))
    own = [path.read_bytes().replace(b'"pid":', b'"pid":9999999', 1) for path in paths]
    for path in paths:
        path.unlink()
    shutil.rmtree(site.config.spool / CLAIMS)
    site.close()
    shutil.copytree(root, original)
    chance = random.Random(35)
    ends = set()
    for number in range(ROUNDS):
        site.close()
        shutil.rmtree(root)
        shutil.copytree(original, root)
        lines = chance.choice([own[1], own[1], own[1] + own[0].partition(b"\n")[2]]).splitlines()
        for _ in range(chance.randrange(1, 4)):
            lines = chance.choice(WAYS)(lines, chance) or [b""]
        paths[1].write_bytes(b"\n".join(lines) + chance.choice([b"", b"\n"]))
        for path in sorted((root / "stores/backbone/products").glob("*[23]a01.txt")):
            if chance.random() < 0.2:
                path.unlink()
        drain(site)
        now = registered(site)
        assert {path: digest for path, digest in now.items() if path in before} == before, f"round {number}"
        ends.add(len(now))
        rows = dump(site.database)
        drain(site)
        assert dump(site.database) == rows, f"round {number}"
    assert ends >= {4, 7}, "some were believed, and others were not"


def registered(site: Site) -> dict[str, str]:
    """Return the digests of all files that the catalogue has, which must be those of their bytes."""
    with site.database.reading() as session:
        rows = session.execute(select(ReplicaRow.path, FileRow.sha256).join(FileRow)).tuples()
        told = {path: digest for path, digest in rows}
    store = site.config.directory / "stores" / "backbone"
    assert told == {path: sha256((store / path).read_bytes()).hexdigest() for path in told}
    return told
