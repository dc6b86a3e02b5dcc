"""``nightmill run``: one order, here, now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nightmill.cli.containers import RuntimeName, containers_for
from nightmill.cli.render.output import echo

if TYPE_CHECKING:
    from nightmill.config.site import SiteConfig
    from nightmill.model.order import JobOrder
    from nightmill.model.report import JobReport

EXAMPLES: Final = ("nightmill run order.json --keep",)


def run(
    order: Annotated[
        Path, typer.Argument(metavar="ORDER", help="The order, as 'nightmill show JOB --order' writes it.")
    ],
    scratch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the scratch; by default the site's, or in --spool.")
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for journal and outputs instead of the site's; nothing is published."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch, to look into it.")] = False,
    site: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the site; not needed with --spool.")
    ] = None,
    runtime: RuntimeName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run one order, here and now, without a database or a server.

    In the site's spool it is carried out for the record: nobody else may do so, and 'nightmill record' brings what the
    journal tells into the backbone. With another spool nothing is published: the outputs are kept in 'kept' of that
    folder.
    """
    from nightmill.config.site import load_site
    from nightmill.errors import ConfigError
    from nightmill.execution.claims import end_claims
    from nightmill.execution.owner import is_alive
    from nightmill.execution.stores import open_stagers
    from nightmill.execution.worker import Worker
    from nightmill.model.access import Access
    from nightmill.model.node import NodeProfile
    from nightmill.model.ports import Stager
    from nightmill.model.states import AttemptState
    from stagers.kept import KeptStager

    job = _read(order)
    try:
        config = load_site(site, need_types=False)
    except ConfigError:
        if spool is None or site is not None:
            raise
        config = None
    access = Access.PRIVATE
    kept: Path | None = None
    cache: Path | None = None
    stagers: dict[str, Stager] = open_stagers(job.stores, os.environ if config is None else config.secrets)
    if config is not None and (spool is None or spool.resolve() == config.spool.resolve()):
        spool, scratch, access = config.spool, scratch or config.scratch, config.access
        cache = config.cache.resolve()
    else:
        assert spool is not None
        kept, scratch = spool / "kept", scratch or spool / "scratch"
        end_claims(spool, ended=lambda claim: is_alive(claim.owner) is False)
    os.umask(access.umask)
    profile = NodeProfile(
        scratch=scratch.resolve(),
        spool=spool.resolve(),
        access=access,
        cache=cache,
        keep_scratch=keep,
        containers=containers_for(job, site, runtime),
        **_rules_of(config),
    )
    with Worker(profile, stagers) as worker:
        if kept is not None:
            kept /= worker.journal.name
            stagers |= {  # those that the worker was given
                name: KeptStager(stagers[name], store, kept / name) for name, store in job.stores.items()
            }
        [report] = worker.run([job])
        if kept is not None:
            worker.journal.release_claims()
    done = report.state is AttemptState.PUBLISHED
    if as_json:
        echo(report.model_dump_json(exclude={"order"}))
    else:
        echo(f"{job.attempt}: {'done, nothing published' if done and kept else report.state}")
        _tell(report, kept, worker.journal.path)
    if kept is not None:
        echo(f"nothing is published without the site's spool; what was made is kept in {kept}", err=True)
    if not done:
        echo(report.evidence, err=True)
        raise typer.Exit(1)


def _rules_of(config: SiteConfig | None) -> dict[str, Any]:
    """Return what a site says of steps; without one, nobody says what they may read, and they are not confined."""
    from nightmill.model.confinement import NodeConfinement, Use

    if config is None:
        return {"confinement": NodeConfinement(use=Use.OFF)}
    return {"network_paths": config.network_paths, "confinement": config.confinement}


def _tell(report: JobReport, kept: Path | None, journal: Path) -> None:
    for step in report.steps:
        cost = step.cost
        spent = f"{cost.wall_seconds:.2f} s, {cost.max_rss_bytes / 1e6:.0f} MB" if cost else ""
        echo(f"  {step.name}: exit code {step.exit_code}  {spent}")
    for file in report.published:
        where = kept / file.store / file.path if kept else file.store
        echo(f"  {file.role}: {file.name} ({file.size_bytes} bytes) in {where}")
    echo(f"  journal: {journal}")


def _read(path: Path) -> JobOrder:
    import json

    from pydantic import ValidationError

    from nightmill.errors import ConfigError
    from nightmill.model.base import unique_keys
    from nightmill.model.order import JobOrder

    remedy = "write it anew with 'nightmill show JOB --order'"
    try:
        order = JobOrder.model_validate_json(text := path.read_bytes())
        json.loads(text, object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"this is not an order: {key}: {first['msg']}",
            where=str(path),
            remedy=remedy,
        ) from error
    except ValueError as error:  # a person who edited it meant the other one
        raise ConfigError(f"this is not an order: {error}", where=str(path), remedy=remedy) from None
    return order
