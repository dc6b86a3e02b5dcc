"""A host that will not come back: an operator says so, and what its processes left is ended from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, AuditRow, LeaseRow
from nightmill.backbone.work import leases
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.execution.journal import journals
from nightmill.execution.owner import host_name, this_process
from nightmill.model.journal import Checked, JournalHeader, Owner, Publishing
from nightmill.operations.drain import drain
from nightmill.operations.lost_hosts import declare_lost
from nightmill.operations.site import Site
from tests.spine.test_drain import attempts, bench, cut_after, order_of, site
from tests.support.backbone import issue
from tests.support.orders import Bench

__all__ = ["bench", "site"]
WHY = "its mainboard burnt"


def far(host: str = "far") -> Owner:
    """Give a process of another host."""
    return this_process().model_copy(update={"host": host})


def take_lease(site: Site, owner: Owner) -> int:
    return site.database.write(lambda session: leases.take(session, owner, flow_run_id=None, now=utc_now()))


def move(path: Path, host: str = "far") -> None:
    """Let another host have written a journal."""
    first, _, rest = path.read_text().partition("\n")
    header = JournalHeader.model_validate_json(first)
    path.write_text(header.model_copy(update={"owner": far(host)}).model_dump_json() + "\n" + rest)


def test_its_attempts_end_by_their_journals_and_their_bytes(site: Site, bench: Bench) -> None:
    orders = [order_of(bench, number) for number in (1, 2, 3)]
    lease = take_lease(site, far())
    site.database.write(lambda session: issue(session, *orders, lease_id=lease))
    bench.run_one(orders[0])
    bench.run_one(orders[1])
    for path, last in zip(journals(site.config.spool), (Publishing, Checked), strict=True):
        cut_after(path, last)
        move(path)
    assert (drain(site).adopted, drain(site).lost) == ([], 0)
    assert [state for _, state, _ in attempts(site)] == ["active"] * 3, "from here nobody can tell"

    declare_lost(site, "far", who="ada", why=WHY)
    drained = drain(site)
    assert (drained.adopted, drained.lost) == ([orders[0].attempt], 2)
    assert attempts(site) == [
        ("exposure=1", "done", "published"),
        ("exposure=2", "failed", "lost"),
        ("exposure=3", "ready", "lost"),
    ]
    assert list(journals(site.config.spool)) == []
    with site.database.reading() as session:
        evidence = session.scalars(select(AttemptRow.evidence).order_by(AttemptRow.id)).all()
        act = session.scalars(select(AuditRow).where(AuditRow.verb == "record --host-lost")).one()
        assert session.scalars(select(LeaseRow.released_at)).one() is not None
    assert evidence[1] == f"its process on {host_name()} was lost with its host while it was checking, in step 'detect'"
    assert evidence[2] == "its process died before the attempt began to tell anything"
    assert (act.who, act.subject, act.why) == ("ada", "far", WHY)
    assert drain(site).lost == 0
    with pytest.raises(RequestRefused, match=r"'far' is open; no other host than this one has any"):
        declare_lost(site, "far", who="ada", why=WHY)


def test_what_it_starts_when_it_came_back_after_all_lives(site: Site, bench: Bench) -> None:
    take_lease(site, far())
    declare_lost(site, "far", who="ada", why=WHY)
    later = take_lease(site, far())
    site.database.write(lambda session: issue(session, order_of(bench, 1), lease_id=later))
    assert drain(site).lost == 0
    with site.database.reading() as session:
        assert list(leases.unreleased(session)) == [later]
    declare_lost(site, "far", who="ada", why="now it is lost indeed")
    assert drain(site).lost == 1


def test_a_host_of_which_nothing_is_open_is_refused_with_those_that_have_some(site: Site, bench: Bench) -> None:
    take_lease(site, far("node7"))
    bench.run_one(order_of(bench, 1))
    [path] = journals(site.config.spool)
    move(path, "node8")
    (path.parent / "broken.jsonl").write_text("no entry\n{}\n")
    with pytest.raises(RequestRefused, match=r"'node' is open \(did you mean 'node\d'\?\); .*: node7, node8$"):
        declare_lost(site, "node", who="ada", why=WHY)
    with pytest.raises(RequestRefused, match="is this very host, where dead processes are found without being told"):
        declare_lost(site, host_name(), who="ada", why=WHY)
    with site.database.reading() as session:
        assert list(session.scalars(select(AuditRow.verb).where(AuditRow.verb != "init"))) == []
