"""``nightmill doctor``: whether everything is as it should be."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.documents.sites import Finding
from nightmill.cli.render.output import echo, secho
from nightmill.cli.shape import SiteFolder
from nightmill.errors import ConfigError, NightmillError

if TYPE_CHECKING:
    from nightmill.config.site import SiteConfig
    from nightmill.operations.site import Site

PACKAGES: Final = ("nightmill", "flows", "provenance", "stagers", "tasks")
"""Top-level packages of the project: names that others may have, too."""
PINNED: Final = {"prefect": ((3, 8, 8), (3, 9)), "fastapi": ((0,), (0, 151)), "sqlalchemy": ((2,), (2, 1))}
"""Versions from, and below: with others the Prefect server does not start, or schedules nothing."""


EXAMPLES: Final = (
    "nightmill doctor",
    "nightmill doctor --flight",
    "nightmill doctor --engine farm",
    "nightmill doctor --deep --checksums",
)


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Compare catalogue, journals, stores, scratch and Prefect.")
    ] = False,
    flight: Annotated[
        bool, typer.Option("--flight", help="Send a tiny job through every part of the site; nothing of it stays.")
    ] = False,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --flight, which it implies: also through this engine of the site, on every host that it tells;"
            " may be given again, and is 'all' for all of them.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long the job of a flight through an engine may take.")
    ] = 300.0,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="With --deep: read every file, and compare its SHA-256.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look whether the installation and the site are in order.

    Nothing is changed for good, but for a note of whether an engine failed its flight: campaigns are not begun on one
    that did. Exit code 1 where something is not in order.
    """
    from nightmill.cli.render.deep import audited
    from nightmill.cli.render.flight import flown, print_places
    from nightmill.cli.render.output import print_json
    from nightmill.errors import RequestRefused

    if checksums and not deep:
        raise RequestRefused("--checksums goes with --deep", remedy="add --deep, or leave it away")
    findings = chain(_packages(), _versions(), _site(site))
    if deep:
        findings = chain(findings, audited(site, checksums=checksums))
    if flight or engine:
        findings = chain(findings, flown(site, engine or (), wait))
    well = True
    told = []
    for finding in findings:
        well = well and finding.well
        told.append(finding)
        if not as_json:
            secho("well  " if finding.well else "WRONG ", fg="green" if finding.well else "red", nl=False)
            spent = "" if finding.wall_seconds is None else f" ({finding.wall_seconds:.2f} s)"
            echo(f"{finding.what}: {finding.seen}{spent}")
    if as_json:
        print_json(told)
    elif engine:
        print_places(told)
    if not well:
        raise typer.Exit(1)


def _packages() -> Iterator[Finding]:
    roots = {}
    for name in PACKAGES:
        spec = find_spec(name)
        roots[name] = Path(spec.origin).parent.parent if spec and spec.origin else None
    for name, root in roots.items():
        well = root is not None and root == roots["nightmill"]
        yield Finding(f"package {name}", well, str(root) if root else "is not there")


def _versions() -> Iterator[Finding]:
    for name, (least, below) in PINNED.items():
        found = version(name)
        numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
        wanted = f"from {'.'.join(map(str, least))}, below {'.'.join(map(str, below))}"
        yield Finding(name, least <= numbers < below, f"{found} (wanted: {wanted})")


def _site(directory: Path | None) -> Iterator[Finding]:
    from nightmill.backbone.database import safe_url
    from nightmill.cli.render.room import partners, room, writable
    from nightmill.cli.render.sinks import log_sinks
    from nightmill.config.literals import literal_secrets
    from nightmill.config.site import find_site, load_site
    from nightmill.operations.identity import identify
    from nightmill.operations.site import Site, database_of

    try:
        folder = find_site(directory)
    except ConfigError as error:
        yield Finding("site", directory is None, f"none to look at: {error}")
        return
    try:
        config = load_site(folder, need_types=False)
    except ConfigError as error:
        yield Finding("configuration", False, str(error))
        return
    yield Finding("configuration", True, f"{folder}, {len(config.file_types)} file types")
    for wrong in config.wrong_types:
        yield Finding("file types", False, str(wrong))
    yield from (Finding("secrets", False, str(error)) for error in literal_secrets(folder))
    yield from _access(config)
    yield from _credentials(config)
    yield from _containers(config)
    yield _confinement(config)
    yield _network(config)
    yield _audit()
    with Site(config, database_of(config)) as opened:
        try:
            opened.database.check_revision()
            identify(config, opened.database)
            yield writable(opened.database, safe_url(config.database_url))
        except NightmillError as error:
            yield Finding("database", False, str(error))
        else:
            yield _reader(opened)
            yield _age(opened)
            yield from _indexes(opened)
            yield from partners(opened)
            yield from _software(opened)
            yield _signing_key(opened)
    yield from room(opened)
    yield _spool(config.spool)
    yield from log_sinks(config)
    yield from _server(config)


def _indexes(site: Site) -> Iterator[Finding]:
    """Find the keys that shall have an index and have none."""
    from nightmill.backbone.catalogue.indexes import indexed

    with site.database.reading() as session:
        lacking = site.config.indexed.keys() - indexed(session, site.config.indexed)
    for key in sorted(lacking):
        told = f"is not there; 'nightmill init {site.config.directory}' makes it"
        yield Finding(f"index of {key}", False, told)


def _access(config: SiteConfig) -> Iterator[Finding]:
    """Find what of a site is open to more than its configuration says."""
    from nightmill.operations.site import modes

    is_closed = True
    for path, mode in modes(config):
        found = stat.S_IMODE(path.stat().st_mode)
        if found & 0o077 & ~mode:
            is_closed = False
            told = f"{path} has mode {found:03o}, which is more than access: {config.access} of the site means"
            yield Finding("access", False, f"{told}; 'nightmill init {config.directory}' sets it to {mode:03o}")
    if is_closed:
        yield Finding("access", True, f"as the site says: {config.access}")


def _credentials(config: SiteConfig) -> Iterator[Finding]:
    """Find how long each credential of a site lives, on this host and for this user."""
    from nightmill.operations.credentials import lives, told

    for life in lives(config):
        well, seen = told(life)
        yield Finding(f"credential {life.credential.name}", well, seen, ends_at=life.ends_at)


def _containers(config: SiteConfig) -> Iterator[Finding]:
    """Find whether the runtime that a site names is there, and the images that it names."""
    from nightmill.execution.probing import container_parts, tried

    for what, part in container_parts(config.containers, config.cache):
        found = tried(what, part)
        yield Finding(what, found.well, found.seen)
        if not found.well and what.startswith("container runtime"):
            return


def _audit() -> Finding:
    """Find whether steps can be audited on this host: only campaigns that want it need it."""
    from nightmill.execution.audit.strace import version

    try:
        return Finding("audit", True, f"steps can be audited, by {version()}")
    except NightmillError as error:
        return Finding("audit", True, f"campaigns with 'execution: {{level: audit}}' start no step here: {error}")


def _confinement(config: SiteConfig) -> Finding:
    """Find how steps are confined on this host."""
    from nightmill.execution.probing import tried, try_confinement

    found = tried("confinement", lambda: try_confinement(config.confinement))
    return Finding("confinement", found.well, found.seen)


def _network(config: SiteConfig) -> Finding:
    """Find what of this host jobs depend on that comes over a network."""
    from nightmill.model.node import NetworkPaths
    from nightmill.planning.network import site_network_paths

    found = site_network_paths(config)
    is_looked_at = config.network_paths is not NetworkPaths.ALLOW
    seen = "; ".join(found) or ("jobs depend on none" if is_looked_at else "not looked at: the site allows them")
    return Finding("network mounts", not found or config.network_paths is not NetworkPaths.REFUSE, seen)


def _software(site: Site) -> Iterator[Finding]:
    """Find what steps ran with that a site does not know, where it looks at that."""
    from nightmill.model.node import NewSoftware
    from nightmill.operations.software import new_in_use

    if site.config.software.new is NewSoftware.ALLOW:
        return
    new = [each.stack.bare_sha256[:12] for each in new_in_use(site)]
    seen = (
        f"steps ran with {', '.join(new)}, which is new: see 'nightmill regress'"
        if new
        else "steps ran with nothing new"
    )
    yield Finding("software", not new, seen)


def _signing_key(site: Site) -> Finding:
    """Find whether workers can sign what they publish, with a key by which the site verifies it."""
    from nightmill.backbone.catalogue.signing_keys import signing_keys
    from nightmill.execution.sealing import Key

    try:
        key = Key(site.signing_key)
    except ConfigError as error:
        return Finding("signing key", False, str(error))
    with site.database.reading() as session:
        known = key.id in signing_keys(session)
    lacking = f"the site does not know it: 'nightmill init {site.config.directory}' makes it known"
    return Finding("signing key", known, f"{key.id[:12]}{'' if known else f': {lacking}'}")


def _reader(site: Site) -> Finding:
    from nightmill.backbone.adhoc import run_sql

    try:
        run_sql(site.database, "SELECT 1", reader_file=site.reader_file, seconds=30)
        return Finding("ad-hoc SQL", True, "can be asked")
    except NightmillError as error:
        return Finding("ad-hoc SQL", False, str(error))


def _age(site: Site) -> Finding:
    from nightmill.operations.memory import older

    try:
        why = older(site)
    except NightmillError as error:
        return Finding("memory of the spool", False, str(error))
    seen = f"the database is older than its spool: {why}; see 'nightmill recover'"
    return Finding("memory of the spool", not why, seen if why else "agrees with the database")


def _spool(folder: Path) -> Finding:
    from nightmill.execution.journal import journals
    from nightmill.execution.quarantine import quarantined

    waiting = len(list(journals(folder)))
    seen = f"{waiting} in the spool" if waiting else "all recorded"
    apart = [str(each) for each in quarantined(folder)]
    return Finding("journals", not apart, "; ".join([seen, *(f"set apart: {each}" for each in apart)]))


def _server(config: SiteConfig) -> Iterator[Finding]:
    from flows.hosting.exposure import exposures
    from flows.hosting.listener import unusable
    from flows.hosting.runners import all_runners
    from flows.hosting.server import daemon
    from flows.hosting.service import folder_of, status

    folder = folder_of(config.directory)
    try:
        found = status(config.directory)
        if found.healthy:
            yield Finding("Prefect server", True, f"runs and answers (pid {found.server.pid})")
        elif found.server.healthy:
            yield Finding("Prefect server", False, "runs, and its runner does not; 'nightmill server start' starts it")
        elif found.server.pid:
            yield Finding("Prefect server", False, str(unusable(daemon(folder))))
        else:
            yield Finding("Prefect server", True, "does not run; 'nightmill server start' starts it")
        for runner in all_runners(config.directory):
            yield Finding("runner", runner.healthy, str(runner))
        yield from (Finding(each.what, each.shut, each.seen) for each in exposures(folder, config.server))
    except NightmillError as error:
        yield Finding("Prefect server", False, str(error))
