"""Hosts that will not come back: whose processes are taken for dead, because an operator says so."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from nightmill.backbone.audit import last_acts
from nightmill.backbone.work import leases
from nightmill.errors import RequestRefused, guess
from nightmill.execution.journal import journals, read_journal
from nightmill.execution.owner import host_name, lives
from nightmill.operations.acts import Act
from nightmill.operations.site import Site

HOST_LOST: Final = "record --host-lost"
"""The act by which an operator declares a host lost."""


def hosts_lost(site: Site) -> Mapping[str, datetime]:
    """Return when which hosts were declared lost."""
    with site.database.reading() as session:
        return last_acts(session, HOST_LOST)


def declare_lost(site: Site, host: str, *, why: str, who: str | None = None) -> None:
    """Put on record that a host will not come back: every drain from now on takes its processes for dead.

    Those that it starts afterwards, because it did come back, are none of them.

    Raises
    ------
    RequestRefused
        Where nothing of that host is open, or it is this host.
    """
    act = Act.begin(site, HOST_LOST, who=who, why=why)
    hosts = hosts_with_open_work(site)
    if host not in hosts and host == host_name():
        raise RequestRefused(
            f"{host!r} is this very host, where dead processes are found without being told",
            remedy="leave --host-lost away",
        )
    if host not in hosts:
        raise RequestRefused(
            f"no lease and no journal of host {host!r} is open{guess(host, hosts)}",
            remedy=f"these hosts have some: {', '.join(hosts)}" if hosts else "no other host than this one has any",
        )
    act.write(host, lambda _: None)


def hosts_with_open_work(site: Site) -> list[str]:
    """Return the hosts that have leases or journals of processes of which nothing can be said from here."""
    lost_hosts = hosts_lost(site)
    with site.database.reading() as session:
        held = [(holder.owner, holder.since) for holder in leases.unreleased(session).values()]
    for path in journals(site.config.spool):
        with suppress(FileNotFoundError):
            if (header := read_journal(path).header) is not None:
                held.append((header.owner, header.begun_at))
    return sorted({owner.host for owner, since in held if lives(owner, since, lost_hosts) is None})
