"""``nightmill show``: all that is on record of one file, job or campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nightmill.cli.completing import stages
from nightmill.cli.render.output import echo, secho
from nightmill.cli.shape import SiteFolder, job_of
from nightmill.errors import RequestRefused, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from nightmill.backbone.catalogue.replicas import Replica
    from nightmill.model.store import Store
    from provenance.history import Execution, JobHistory

EXAMPLES: Final = (
    "nightmill show first/clean/exposure=2,detector=2",
    "nightmill show img002_2.fits",
    "nightmill show first/clean/exposure=2,detector=2/a01 --order > order.json",
)


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A file, a campaign, a job (CAMPAIGN/STAGE/UNIT), or an attempt of it (.../a02).",
            autocompletion=stages,
        ),
    ],
    order: Annotated[
        bool, typer.Option("--order", help="Print the order of the job's attempt instead, for 'nightmill run'.")
    ] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show all that is on record of a file, campaign, job or attempt."""
    from nightmill.backbone.catalogue.files import name_meant, near_names
    from nightmill.backbone.work.campaigns import campaigns, exists
    from nightmill.cli.opening import open_without_types

    job, number = job_of(name)
    if order and not job:
        raise RequestRefused(f"{name!r} is not a job, and only jobs have orders", remedy="write CAMPAIGN/STAGE/UNIT")
    with open_without_types(site) as opened, opened.database.reading() as session:
        if job and order:
            from nightmill.planning.again import issued_order

            echo(issued_order(session, *job, number=number).model_dump_json(indent=2))
        elif job:
            _show_job(session, *job, number, as_json)
        elif exists(session, name):
            _show_campaign(session, name, as_json)
        elif meant := name_meant(session, name):
            _show_file(session, meant, opened.config.stores, as_json)
        else:
            known = [row.name for row in campaigns(session)] + near_names(session, name)
            raise UnknownName(
                "file, job or campaign", name, known, remedy="see 'nightmill find' and 'nightmill status'"
            )


def _told(copies: Sequence[Replica], stores: Mapping[str, Store]) -> Iterator[str]:
    """Tell of each copy; of several, in which order jobs try them, and why."""
    for copy in copies:
        cost = f", cost {stores[copy.store].read_cost:g}" if copy.store in stores and len(copies) > 1 else ""
        doubt = f"; tried last in vain: {copy.doubt}" if copy.doubt else ""
        yield f"{copy.store}: {copy.path} ({copy.state}{cost}{doubt})"


def _show_file(session: Session, name: str, stores: Mapping[str, Store], as_json: bool) -> None:
    from nightmill.backbone.catalogue.attachments import attached, rows_of
    from nightmill.backbone.catalogue.calibrations import history
    from nightmill.backbone.catalogue.file_warnings import warnings_of
    from nightmill.backbone.catalogue.files import data_id, files_named
    from nightmill.backbone.catalogue.replicas import replicas
    from nightmill.backbone.catalogue.withdrawals import history as withdrawals_of
    from nightmill.backbone.catalogue.withdrawals import withdrawals
    from nightmill.cli.render.files import shown_file
    from nightmill.cli.render.output import print_facts, print_json, print_table
    from nightmill.model.attachment import JUNK
    from nightmill.operations.find import CataloguedFile
    from nightmill.planning.copies import nearest_first
    from provenance.history import maker_of

    row = files_named(session, [name])[name]
    copies = nearest_first(replicas(session, [row.id]).get(row.id, []), stores)
    maker = maker_of(session, row.id)
    roles = {role.set_name: role for role in history(session, row.id)}
    gone = withdrawals(session, [row.id]).get(row.id)
    warnings = warnings_of(session, [row.id]).get(row.id, [])
    junk = [data for _id, data in rows_of(session, JUNK, [row.id])] if row.type == JUNK else []
    made_by = f"{maker.attempt_name} {maker.execution.step}" if maker else None
    if as_json:
        calibrations = {name: str(role.maturity) for name, role in roles.items()}
        file = CataloguedFile(row, copies, gone[0].at if gone else None, warnings)
        print_json(shown_file(file, made_by=made_by, calibrations=calibrations, junk=junk))
        return
    print_facts(
        [
            ("file", row.name),
            ("type", row.type),
            ("origin", row.origin),
            ("data ID", data_id(row)),
            ("begins at", row.begins_at),
            ("ends at", row.ends_at),
            ("metadata", row.attributes),
            ("bytes", row.size_bytes),
            ("SHA-256", row.sha256),
            ("came as", row.original_name if row.original_name != row.name else None),
            ("provenance", row.provenance),
            ("made by", made_by),
            *(("withdrawn", f"{row.name} {told}") for told in withdrawals_of(session, name)),
            ("registered", f"{row.registered_at:%Y-%m-%d %H:%M:%S} by {row.registered_by}"),
            *(("copy", told) for told in _told(copies, stores)),
            *((f"warned by {each.check}", each.message) for each in warnings),
            *(("rows", f"{count:,} of its {kind}") for kind, count in attached(session, row.id).items()),
            *(("calibration", f"in set {role.set_name}, {role.maturity}") for role in roles.values()),
        ]
    )
    if junk:
        columns = ("step", "path", "kind", "size_bytes", "why")
        print_table(
            ("step", "path", "kind", "bytes", "why", "kept"),
            ((*(each[name] for name in columns), "yes" if each["kept"] else "no") for each in junk),
        )


def _show_campaign(session: Session, name: str, as_json: bool) -> None:
    from nightmill.backbone.catalogue.transfers import routes
    from nightmill.backbone.work.campaigns import campaign_named, jobs, progress
    from nightmill.cli.documents import told
    from nightmill.cli.documents.work import ShownCampaign
    from nightmill.cli.render.failures import show_failures
    from nightmill.cli.render.knowledge import show_known
    from nightmill.cli.render.output import print_facts, print_json, print_table
    from provenance.knowledge import Completeness, completeness, warned

    row = campaign_named(session, name)
    stages = progress(session, row.id)
    known = completeness(session, [row.id]).get(row.id, Completeness())
    warnings = warned(session, [row.id]).get(row.id, [])
    lines, moved = list(jobs(session, row.id)), list(routes(session, campaign=name))
    if as_json:
        own = {"stages": stages, "transfers": moved, "jobs": lines, "known": known, "differences": warnings}
        print_json(told(ShownCampaign, row, **own))
        return
    print_facts(
        [
            ("campaign", row.name),
            ("pipeline", f"{row.pipeline} {row.pipeline_version}"),
            ("submitted", f"{row.submitted_at:%Y-%m-%d %H:%M:%S} by {row.submitted_by}"),
            ("selects", row.definition.get("where")),
            ("parameters", row.definition.get("parameters")),
            *((each.purpose.value, str(each)) for each in moved),
            *(
                (f"stage {each.stage}", {state.value: n for state, n in each.counts.items()} or "not planned yet")
                for each in stages
            ),
        ]
    )
    print_table(
        ("job", "state", "attempts", "step", "fate", "error"),
        ((line.name, line.state, line.attempts, line.step, line.fate, line.called) for line in lines),
    )
    show_failures(lines)
    show_known(known, warnings)


def _show_job(session: Session, campaign: str, stage: str, unit: str, number: int | None, as_json: bool) -> None:
    from nightmill.cli.render.histories import history_of
    from nightmill.cli.render.output import print_facts, print_json, print_table
    from provenance.history import job_history

    job = job_history(session, campaign, stage, unit, number=number)
    if as_json:
        print_json(history_of(job))
        return
    print_facts(
        [
            ("job", f"{campaign}/{stage}/{unit}"),
            ("state", f"{job.state}{', its inputs are stale' if job.stale else ''}"),
            ("data ID", job.data_id),
        ]
    )
    print_table(
        ("attempt", "state", "fate", "error", "step", "host", "began at", "ended at", "counts"),
        (
            (
                f"a{each.number:02d}",
                each.state,
                each.fate,
                each.error,
                each.failed_step,
                each.host,
                each.began_at,
                each.ended_at,
                "yes" if each.result else "",
            )
            for each in job.attempts
        ),
    )
    if job.shown is not None:
        secho(f"attempt a{job.shown.number:02d}", bold=True)
        _show_attempt(job)


def _show_attempt(job: JobHistory) -> None:
    from nightmill.cli.render.knowledge import facts_of, show_observed
    from nightmill.cli.render.output import print_table

    if job.inputs:
        places = {run.step: place for place, run in enumerate(job.executions)}
        inputs = sorted(job.inputs, key=lambda each: places.get(each.step, len(places)))
        columns, facts = facts_of(inputs)
        print_table(
            ("step", "role", "file", "because", "said by", *columns),
            (
                (each.step, each.role, each.name, each.rule, each.origin, *known)
                for each, known in zip(inputs, facts, strict=True)
            ),
        )
    if job.executions:
        print_table(("step", "state", "exit", "wall s", "CPU s", "peak MB", "command"), map(_ran, job.executions))
        for run in job.executions:
            _show_where(run)
    if job.made:
        print_table(
            ("role", "made", "type", "where"),
            ((each.role, each.name, each.type, each.place or "not kept") for each in job.made),
        )
        for made in job.made:
            for warning in made.warnings:
                echo(f"{made.name} warned by {warning.check}: {warning.after(made.name)}")
    if job.shown is not None:
        bundle = f", bundle {job.shown.bundle[:12]}" if job.shown.bundle else ""
        echo(f"configuration: order {job.shown.order_sha256[:12]}, plan {job.shown.plan_sha256[:12]}{bundle}")
    show_observed(job.executions)
    if job.shown is not None and job.shown.evidence:
        echo(job.shown.evidence)
    if job.shown is not None and job.shown.error:
        more = f" ({job.shown.link})" if job.shown.link else ""
        word = "accepted" if job.shown.fate == "published" else "error"
        echo(f"{word} {job.shown.error} (version {job.shown.error_version}): {job.shown.explanation}{more}")


def _show_where(run: Execution) -> None:
    """Say where a step ran, with which software, and what it read and wrote."""
    moved = "" if run.read_bytes is None else f"; read {run.read_bytes:,} bytes, wrote {run.written_bytes or 0:,}"
    software = run.software.bare_sha256[:12] if run.software is not None else "that is not known"
    echo(f"{run.step} on host {run.host} with software {software}{moved}")
    if run.software is not None and (container := run.software.container):
        echo(f"{run.step} in image {container['image']}, by {container['container runtime']}")


def _ran(run: Execution) -> tuple[Any, ...]:
    ended = f"signal {run.signal}" if run.signal else run.exit_code
    cpu = None if run.user_seconds is None else f"{run.user_seconds + (run.system_seconds or 0.0):.2f}"
    wall = None if run.wall_seconds is None else f"{run.wall_seconds:.2f}"
    peak = None if run.max_rss_bytes is None else f"{run.max_rss_bytes / 1e6:.0f}"
    state = f"{run.state}, accepted as {run.accepted}" if run.accepted else run.state
    return (run.step, state, ended, wall, cpu, peak, " ".join(run.argv))
