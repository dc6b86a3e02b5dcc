"""Capsules: a job of the site, written into a folder that runs without the site."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, PlanRow
from nightmill.backbone.work.campaigns import campaign_named, job_named
from nightmill.errors import BadFile, RequestRefused, StoreError
from nightmill.execution.capsule.folder import KEPT, PRODUCTS
from nightmill.files.archive import unpack
from nightmill.files.checksum import fingerprint
from nightmill.model.campaign import Campaign, Layer
from nightmill.model.layout import BUNDLE, INPUTS
from nightmill.model.order import Copy, JobOrder
from nightmill.model.report import JobReport
from nightmill.model.store import Store
from nightmill.operations import capsule_texts as texts
from nightmill.operations.bundle import opened_bundle
from nightmill.operations.site import Site, folder_of
from nightmill.planning.again import issued_order, next_order
from nightmill.planning.sealed import JobDetail, StageCommon, commons
from provenance.history import job_history
from provenance.reports import report_of


@dataclass(frozen=True)
class Written:
    """A capsule that was written.

    Parameters
    ----------
    folder
        Where.
    order
        What it runs, with places in the capsule.
    linked
        Names of inputs that are links into a store of the site.
    recorded
        What is on record of the attempt; None where the job never ran.
    products
        Names of the recorded products that were brought.
    """

    folder: Path
    order: JobOrder
    linked: tuple[str, ...]
    recorded: JobReport | None
    products: tuple[str, ...]


def write_capsule(
    site: Site,
    job: tuple[str, str, str],
    folder: Path,
    *,
    number: int | None = None,
    link: bool = False,
    products: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the capsule of an attempt, whole or not at all; the site stays as it is.

    Parameters
    ----------
    job
        Its campaign, stage and unit.
    folder
        A new folder, or an empty one.
    number
        Of the attempt; by default the last, or of a job that never ran the one that would come.
    link
        Whether inputs are linked where a store of the site is a folder and nobody may write to the file; others are
        copied. Such a capsule stays on hosts that see the store.
    products
        Whether to bring what the attempt published, to compare with.
    report
        Is told after each input how many bytes of them are there, of how many.

    Raises
    ------
    UnknownName
        Where there is no such job.
    RequestRefused
        Where there is no such attempt, it is of a time before bundles, an input or the bundle cannot be had as it was,
        or the folder holds something or cannot be written.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise RequestRefused(f"{folder} exists and is not an empty folder", remedy="give the capsule a new folder")
    about, order, recorded = _asked(site, job, number)
    if order.bundle is None and order.pipeline_dir:
        raise RequestRefused(
            f"{order.attempt} is of a time before bundles: its steps run what is in {order.pipeline_dir} now",
            remedy="submit its pipeline in a campaign of another name, and write the capsule of a job of that",
        )
    own = _in_capsule(order)
    part = folder.with_name(f".{folder.name[:200]}.{token_hex(4)}.part")
    try:
        try:
            part.mkdir()
            linked = _bring_inputs(site, order, part, link=link, report=report)
            _bring_bundle(site, order, part / BUNDLE)
            brought = _bring_products(site, recorded, part / KEPT) if products else ()
            kept = None if recorded is None else recorded.model_copy(update={"order": own, **_unplaced(recorded)})
            texts.write(part, own, kept, about)
            part.rename(folder)
        except OSError as error:
            raise RequestRefused(
                f"the capsule {folder} cannot be written: {error.filename or part}: {error.strerror}",
                remedy="choose a folder where you may write and where there is room",
            ) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Written(folder, own, linked, kept, brought)


def _asked(site: Site, job: tuple[str, str, str], number: int | None) -> tuple[texts.About, JobOrder, JobReport | None]:
    """Return what is on record of an attempt, and its order."""
    with site.database.reading() as session:
        row = job_named(session, *job)
        number = number or row.attempts or None
        history = job_history(session, *job, number=number)
        order = issued_order(session, *job, number=number) if number else next_order(session, *job)
        recorded = report_of(session, history.shown, order) if history.shown else None
        plan_id = row.plan_id
        if history.shown is not None:
            plan_id = session.scalar(select(PlanRow.id).where(PlanRow.sha256 == order.plan_sha256)) or plan_id
        [(_digest, common)] = commons(session, {plan_id}).values()
        campaign = campaign_named(session, job[0])
        kept = session.get_one(AttemptRow, history.shown.id).job_detail if history.shown is not None else None
        detail = JobDetail.model_validate(kept or row.detail)
        about = texts.About(
            common=common.of(detail),
            origins=_origins(Campaign.model_validate(campaign.definition), common, detail),
            software={run.step: run.software for run in history.executions if run.software is not None},
            host=history.shown.host or "" if history.shown else "",
            site=site.config.name,
        )
        return about, order, recorded


def _origins(campaign: Campaign, common: StageCommon, detail: JobDetail) -> Mapping[str, Layer]:
    """Return which layer set each value of a job: those of its units go over those of the campaign."""
    units = common.variants[detail.variant - 1].units if detail.variant else ""
    theirs = next((variant.origins for variant in campaign.variants if variant.units == units), {})
    return {**campaign.origins, **theirs}


def _in_capsule(order: JobOrder) -> JobOrder:
    """Return an order with the places of a capsule: nothing in it leads to the site."""
    access = order.stores[order.log_store].access
    stores = {name: Store(name=name, url=name, access=access) for name in (INPUTS, PRODUCTS, BUNDLE)}
    stores[INPUTS] = stores[INPUTS].model_copy(update={"verify": "checksum"})
    steps = [
        step.model_copy(
            update={
                "outputs": tuple(
                    [
                        output.model_copy(update={"store": PRODUCTS if output.store else "", "directory": ""})
                        for output in step.outputs
                    ]
                )
            }
        )
        for step in order.steps
    ]
    inputs = [file.model_copy(update={"store": INPUTS, "path": file.staged_name, "also": ()}) for file in order.inputs]
    return order.model_copy(
        update={
            "stores": stores,
            "inputs": tuple(inputs),
            "steps": tuple(steps),
            "bundle": order.bundle and order.bundle.model_copy(update={"store": BUNDLE, "path": "bundle.tar"}),
            "pipeline_dir": "",
            "log_store": PRODUCTS,
            "log_directory": "",
            "only": None,  # it has the inputs of the job, and runs every step
            "taken": (),
        }
    )


def _unplaced(report: JobReport) -> dict[str, object]:
    """Return the files of a report as a capsule knows them: in its one store of products."""

    def of(name: str) -> tuple[object, ...]:
        files = getattr(report, name)
        return tuple(
            [file.model_copy(update={"store": PRODUCTS, "path": file.name}) if file.store else file for file in files]
        )

    return {name: of(name) for name in ("made", "published")}


def _bring_inputs(
    site: Site, order: JobOrder, part: Path, *, link: bool, report: Callable[[int, int], None] | None
) -> tuple[str, ...]:
    """Copy or link each input from the first of its copies that is as it was registered; return those linked."""
    folder = part / INPUTS
    folder.mkdir()
    linked = []
    done, total = 0, sum(file.size_bytes for file in order.inputs)
    mode = order.stores[order.log_store].access.stored_mode
    for file in order.inputs:
        target = folder / file.staged_name
        what = f"input {file.role} {file.name}"
        _bring(site, file.copies, target, (file.size_bytes, file.sha256), what, link=link)
        if target.is_symlink():
            linked.append(file.name)
        else:
            target.chmod(mode)
        done += file.size_bytes
        if report is not None:
            report(done, total)
    return tuple(linked)


def _bring(
    site: Site, copies: Iterable[Copy], target: Path, seen: tuple[int, str], what: str, *, link: bool = False
) -> None:
    """Fetch, or link, the first of several copies that can be had and is whole."""
    failures = []
    for copy in copies:
        if copy.store not in site.stagers:
            failures.append(f"store {copy.store!r} is none of the site's")
            continue
        try:
            place = _linkable(site, copy) if link else None
            if place is not None:
                target.symlink_to(place)
            else:
                with site.moving(copy.store) as stager:
                    stager.fetch(copy.path, target)
            if fingerprint(target) == seen:
                return
            failures.append(f"{copy.path} in store {copy.store!r} is not what was registered: its bytes have changed")
        except (StoreError, BadFile) as error:
            failures.append(error.message)
        target.unlink(missing_ok=True)
    raise RequestRefused(f"{what} cannot be had: {'; and '.join(failures)}", remedy="bring back a good copy of it")


def _linkable(site: Site, copy: Copy) -> Path | None:
    """Return the path of a copy that a link may lead to: in a folder, a regular file, and nobody may write to it."""
    root = folder_of(site.config.stores[copy.store])
    try:
        place = None if root is None else (root / copy.path).resolve(strict=True)
        mode = 0 if place is None else place.stat().st_mode
    except OSError:  # the store says why
        return None
    return place if stat.S_ISREG(mode) and not mode & 0o222 else None


def _bring_bundle(site: Site, order: JobOrder, folder: Path) -> None:
    """Unpack the pipeline's folder, for its owner to edit."""
    if order.bundle is None:
        return
    with opened_bundle(site, order.bundle) as archive:
        unpack(archive, folder)
    for above, _folders, names in os.walk(folder):
        for path in (Path(above), *(Path(above, name) for name in names)):
            path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)


def _bring_products(site: Site, recorded: JobReport | None, folder: Path) -> tuple[str, ...]:
    """Bring what an attempt published; what cannot be had any more is an error that names it."""
    if recorded is None:
        raise RequestRefused("--products: the job never ran, and has none", remedy="leave it out")
    folder.mkdir()
    brought = []
    for file in recorded.published:
        if file.step:
            copy = Copy(store=file.store, path=file.path)
            _bring(site, [copy], folder / file.name, (file.size_bytes, file.sha256), f"product {file.name}")
            brought.append(file.name)
    return tuple(brought)
