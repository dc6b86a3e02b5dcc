"""What a database that was brought back from an older backup does not know, had back from journals and bytes.

Nothing is moved, and no file is registered whose bytes were not read: where size and SHA-256 are those that the journal
declares, at a place that nothing else has, the attempt is put on record as it ended. Everything else is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.error_rules import error_ids
from nightmill.backbone.catalogue.files import known_files, names_taken
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow, PlannedInputRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here, this_site
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.attempts import JobKey, Standing, job_key, jobs_named, standings
from nightmill.backbone.work.ownership import of_other_sites
from nightmill.backbone.work.saved_plans import lock_numbers, raise_sequence
from nightmill.clock import utc_now
from nightmill.errors import NightmillError, StoreError
from nightmill.execution.journal import JournalBroken, read_whole_journal, recorded_journals
from nightmill.files.naming import is_fit
from nightmill.model.campaign import Campaign
from nightmill.model.fit import misfit
from nightmill.model.order import AttemptKey, OrderBundle, order_sha256
from nightmill.model.report import JobReport, fold, stacks
from nightmill.model.states import AttemptState, JobState
from nightmill.operations import memory
from nightmill.operations.acts import Act
from nightmill.operations.alone import alone
from nightmill.operations.attachments import load_reported
from nightmill.operations.audit.contradiction import Kind
from nightmill.operations.audit.journals import disagreement
from nightmill.operations.bundle import register_bundle, with_templates
from nightmill.operations.mend import set_right, wrong_rows
from nightmill.operations.site import Site
from nightmill.operations.turns import take_turn
from provenance.executions import Stacks
from provenance.products import registered
from provenance.record import record

RECOVER: Final = "recover"
"""The act."""
_BATCH: Final = 200
Report = Callable[[int, int], None]


@dataclass
class Recovery:
    """What can be had back, or was."""

    older: str = ""
    """In what the database is older than its spool."""
    campaigns: list[str] = field(default_factory=list)
    """Those that are not on record, and were kept in the spool."""
    attempts: Counter[str] = field(default_factory=Counter)
    """How many attempts are put on record, by the state in which they ended."""
    unplanned: Counter[str] = field(default_factory=Counter)
    """How many attempts are of jobs that are not on record, by campaign."""
    refused: dict[str, str] = field(default_factory=dict)
    """What cannot be had back, each with the reason and what to do."""
    rows: Counter[str] = field(default_factory=Counter)
    """How many rows are set right that contradict others, by what is wrong with them."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do, and nothing to tell."""
        return not (self.older or self.campaigns or self.attempts or self.unplanned or self.refused or self.rows)


def preview(site: Site, *, report: Report | None = None) -> Recovery:
    """Say what can be had back; every file that would be registered is read. Writes nothing."""
    found = Recovery(older=memory.older(site))
    _Work(site, found, do=False, who="", report=report).campaigns()
    _Work(site, found, do=False, who="", report=report).journals()
    with site.database.reading() as session:
        found.rows = wrong_rows(session)
    return found


def recover(site: Site, *, why: str, who: str | None = None, report: Report | None = None) -> Recovery:
    """Put on record what can be had back, take the database for current from now on, and leave a record of the act.

    Numbers of attempts that the journals tell of are never given again, whether or not the attempts can be had back.
    May be done again, as when a store has come back.
    """
    act = Act.begin(site, RECOVER, who=who, why=why)
    found = Recovery(older=memory.older(site))
    remembered = memory.marks(site.config.spool)
    with alone(site.config.spool):
        work = _Work(site, found, do=True, who=act.who, report=report)
        work.campaigns()
        while work.journals() and work.plan() | work.has_news():
            pass  # jobs or inputs have come: more attempts may be had back by now
        work.keep_numbers()

        def finish(session: Session) -> None:
            found.rows = wrong_rows(session)
            set_right(session)
            memory.take_for_current(session, remembered)
            detail = {"older": found.older, "campaigns": found.campaigns, "attempts": dict(found.attempts)}
            detail |= {"unplanned": dict(found.unplanned), "refused": found.refused, "rows": dict(found.rows)}
            act.note(session, site.config.name, detail)

        site.database.write(finish)
        with site.database.reading() as session:
            reached = memory.marks_of(session)
        memory.set_marks(site.config.spool, reached)
    return found


@dataclass
class _Work:
    """Goes through what the spool holds, and does what can be done, or only says so."""

    site: Site
    found: Recovery
    do: bool
    who: str
    report: Report | None
    _numbers: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """The highest numbers that were given to jobs which are not on record, by campaign, stage and unit."""
    _bundles: dict[str, OrderBundle] = field(default_factory=dict)
    """What the first attempts of campaigns saw of the pipeline's folder."""
    _told: set[AttemptKey] = field(default_factory=set)
    _seen: int = 0
    _lacking: set[tuple[str, str]] = field(default_factory=set)
    """Campaigns with their stages that have attempts, of unknown jobs, whose inputs are not on record."""

    def campaigns(self) -> None:
        """Bring back the campaigns that are not on record, each under its number, which stands in names of files."""
        for kept in memory.kept_campaigns(self.site.config.spool):
            with self.site.database.reading() as session:
                same = select(CampaignRow).where((CampaignRow.id == kept.number) | (CampaignRow.name == kept.name))
                there = list(session.scalars(same))
            if not there:
                self.found.campaigns.append(kept.name)
                if self.do:
                    self.site.database.write(partial(_add_campaign, site=self.site, kept=kept))
            elif (there[0].id, there[0].name) != (kept.number, kept.name):
                self.found.refused[kept.name] = (
                    f"it was campaign {kept.number}, and the database has campaign {there[0].id} {there[0].name!r};"
                    " files of both may want the same names, and none is overwritten"
                )

    def plan(self) -> bool:
        """Plan the stages that can be planned of campaigns with attempts of unknown jobs; say whether jobs came."""
        came = False
        for name in self.found.unplanned:
            with self.site.database.reading() as session:
                if not campaigns.exists(session, name) or of_other_sites(session, [name]):
                    continue
                row = campaigns.campaign_named(session, name)
                before = campaigns.progress(session, row.id)
                pipeline = Campaign.model_validate(row.definition).pipeline
            bundle = self._bundles.get(name)
            if bundle is not None:
                told = f"recovered from journals of campaign {name}"
                self.site.database.write(
                    partial(register_bundle, bundle=bundle, provenance=told, who=self.who, now=utc_now())
                )
            for stage in before:
                if (name, stage.stage) in self._lacking:
                    continue  # planned now, it would leave units out for good
                try:
                    sealed = with_templates(self.site, bundle, pipeline) if bundle is not None else None
                    take_turn(self.site, name, stage.stage, bundle=sealed)
                except NightmillError as error:
                    self.found.refused[f"{name}/{stage.stage}"] = f"it cannot be planned: {error}"
            with self.site.database.reading() as session:
                after = campaigns.progress(session, campaigns.campaign_named(session, name).id)
            came = came or [stage.total for stage in before] != [stage.total for stage in after]
        return came

    def has_news(self) -> bool:
        """Whether attempts were put on record since this was asked last."""
        before, self._seen = self._seen, len(self._told)
        return self._seen > before

    def keep_numbers(self) -> None:
        """Remember the numbers that were given to jobs which may come on record later."""
        for campaign, given in self._numbers.items():
            memory.keep_numbers(self.site.config.spool, campaign, given)

    def journals(self) -> bool:
        """Go through the journals that are recorded; say whether they tell of jobs that are not on record."""
        self.found.unplanned.clear()
        self._lacking.clear()
        paths = list(recorded_journals(self.site.config.spool))
        for number, path in enumerate(paths, start=1):
            try:
                entries = read_whole_journal(path).entries
            except (JournalBroken, OSError) as error:
                self.found.refused[path.name] = str(error)
                continue
            ended = [report for report in fold(entries).values() if report.state.ended and self._is_possible(report)]
            for start in range(0, len(ended), _BATCH):
                self._batch(ended[start : start + _BATCH], stacks(entries), path.name)
            if self.report is not None:
                self.report(number, len(paths))
        return bool(self.found.unplanned)

    def _is_possible(self, report: JobReport) -> bool:
        """Whether a database can be asked for an attempt, and a file be called by its campaign: a key may be forged."""
        key = report.attempt
        possible = is_fit(key.campaign) and key.campaign[0] != "." and "\0" not in str(key) and key.number < 2**31
        if not possible:
            self.found.refused[repr(str(key))] = "no campaign, job and number are like that: its journal is forged"
        return possible

    def _batch(self, reports: Sequence[JobReport], software: Stacks, source: str) -> None:
        with self.site.database.reading() as session:
            known = standings(session, (report.attempt for report in reports))
            jobs = jobs_named(session, (job_key(report.attempt) for report in reports))
            told = [report for report in reports if _tells_more(report, known.get(report.attempt))]
            wanted = [report for report in told if report.attempt not in self._told]
            why = _taken(session, wanted) | _lacking(session, wanted)
        for report in wanted:
            if unfit := misfit(report, software):
                why[report.attempt] = f"its journal contradicts itself: {unfit}"
        numbers: dict[JobKey, int] = {}
        fit = []
        for report in wanted:
            key, attempt = job_key(report.attempt), report.attempt
            if attempt not in known:
                numbers[key] = max(numbers.get(key, 0), attempt.number)
            if key not in jobs:
                self._note_unplanned(report)
                if attempt in why:
                    self._lacking.add(key[:2])
            elif attempt not in why and (unproven := self._unproven(report)):
                why[attempt] = unproven
            elif attempt not in why:
                fit.append(report)
            self.found.refused.pop(str(attempt), None)
        rows, lost = load_reported(self.site, fit) if self.do else ({}, {})
        why |= lost
        fit = [report for report in fit if report.attempt not in lost]
        self.found.refused |= {str(attempt): reason for attempt, reason in why.items()}
        if self.do and numbers.keys() & jobs.keys() | {job_key(report.attempt) for report in fit}:
            self.site.database.write(lambda session: _write(session, fit, numbers, software, rows, source=source))
        self.found.attempts.update(report.state.value for report in fit)
        self._told |= {report.attempt for report in fit}

    def _note_unplanned(self, report: JobReport) -> None:
        campaign, stage, unit = job_key(report.attempt)
        self.found.unplanned[campaign] += 1
        if report.order.bundle is not None:
            self._bundles.setdefault(campaign, report.order.bundle)
        of_stage = self._numbers.setdefault(campaign, {}).setdefault(stage, {})
        of_stage[unit] = max(of_stage.get(unit, 0), report.attempt.number)

    def _unproven(self, report: JobReport) -> str:
        """Say which file of an attempt does not stand in its store with the bytes that the journal declares."""
        for file in report.published:
            if not report.order.stores[file.store].catalogued:
                continue  # it was delivered, and may have been taken away since
            where = f"{file.name} ({file.path} in store {file.store!r})"
            if file.store not in self.site.stagers:
                return f"{where}: the site has no such store; name it in nightmill.yaml, then recover again"
            stager = self.site.stagers[file.store]
            try:
                size_bytes = stager.size(file.path)
                if size_bytes is None:
                    return f"{where} is not there; bring it back, then recover again"
                if size_bytes != file.size_bytes or stager.sha256(file.path) != file.sha256:
                    return f"{where} has other bytes than its journal declares; bring these back, then recover again"
            except StoreError as error:
                return f"{where} cannot be read: {error}"
        return ""


def _tells_more(report: JobReport, standing: Standing | None) -> bool:
    """Whether a journal tells an end that the database lacks, and that it takes."""
    if standing is None:
        return True
    found = disagreement(report, standing)
    given_up = standing.state in (AttemptState.CANCELLED, AttemptState.LOST)
    return found is not None and (
        found[0] is Kind.DATABASE_OLDER
        or (given_up and report.state not in (AttemptState.CANCELLED, AttemptState.LOST))
    )


def _lacking(session: Session, reports: Sequence[JobReport]) -> dict[AttemptKey, str]:
    """Say which input of attempts is not on record: without it, their provenance would have a hole."""
    names = {item.name for report in reports for item in report.order.inputs}
    digests = {name: file.sha256 for name, file in known_files(session, names).items()}
    why: dict[AttemptKey, str] = {}
    for report in reports:
        for item in report.order.inputs:
            if item.name not in digests:
                told = f"its input {item.name} is not on record; take it in with 'nightmill ingest', then recover again"
                why[report.attempt] = told
            elif digests[item.name] != item.sha256:
                why[report.attempt] = f"its input {item.name} is on record with other bytes"
    return why


def _taken(session: Session, reports: Sequence[JobReport]) -> dict[AttemptKey, str]:
    """Say which file of attempts has a name, or stands at a place, that another file has on record by now."""
    made = [(report.attempt, file) for report in reports for file in registered(report)]
    names = names_taken(session, [file.name for _attempt, file in made])
    query = (
        select(StoreRow.name, ReplicaRow.path, FileRow.name)
        .join(StoreRow, StoreRow.id == ReplicaRow.store_id)
        .join(FileRow, FileRow.id == ReplicaRow.file_id)
        .where(is_here(session), among(ReplicaRow.path, [file.path for _attempt, file in made]))
    )
    places = {(store, path): name for store, path, name in session.execute(query)}
    why: dict[AttemptKey, str] = {}
    for attempt, file in made:
        if file.name in names:
            why[attempt] = f"another file is on record by the name {file.name}; see 'nightmill show {file.name}'"
        elif (holder := places.get((file.store, file.path))) is not None:
            why[attempt] = f"{holder} is on record at {file.path} in store {file.store!r}, where {file.name} should be"
    return why


def _add_campaign(session: Session, *, site: Site, kept: memory.KeptCampaign) -> None:
    lock_numbers(session)
    store_ids(session, site.config.stores)
    values = kept.model_dump(exclude={"number"})
    session.add(CampaignRow(id=kept.number, site_id=this_site(session), **values))
    session.flush()
    raise_sequence(session)


def _write(
    session: Session,
    reports: Sequence[JobReport],
    numbers: Mapping[JobKey, int],
    software: Stacks,
    rows: Mapping[str, int],
    *,
    source: str,
) -> None:
    """Put attempts on record as they ended; numbers that were given stay given."""
    jobs = jobs_named(session, [*numbers, *(job_key(report.attempt) for report in reports)])
    for key, number in numbers.items():
        if (job := jobs.get(key)) is not None and job.attempts < number:
            job.attempts = number
    session.flush()
    known = standings(session, (report.attempt for report in reports))
    for report in sorted(reports, key=lambda report: report.attempt.number):
        if report.attempt not in known:
            _issue(session, jobs[job_key(report.attempt)], report, source)
    record(session, reports, software, now=utc_now(), attachments=rows)


def _issue(session: Session, job: JobRow, report: JobReport, source: str) -> None:
    """Write the rows that an attempt had when it was issued."""
    order = report.order
    if job.state != JobState.DONE.value:
        job.state = JobState.ACTIVE.value
    rules = error_ids(session, {rule.called for step in order.steps for rule in step.rules})
    attempt = AttemptRow(
        job_id=job.id,
        plan_id=job.plan_id,
        number=report.attempt.number,
        state=AttemptState.ISSUED.value,
        order_sha256=order_sha256(order),
        memory_bytes=order.resources.memory_bytes,
        rule_ids=sorted(rules.values()) or None,
        issued_at=report.began_at,
    )
    session.add(attempt)
    session.flush()
    ids = {name: file.id for name, file in known_files(session, [item.name for item in order.inputs]).items()}
    planned: list[dict[str, Any]] = [
        {
            "attempt_id": attempt.id,
            "step": step.name,
            "role": role,
            "file_id": ids[item.name],
            "rule": item.rule,
            "origin": f"recovered from {source}",
            "level": item.level,
        }
        for step in order.steps
        for item in order.inputs
        if item.name in step.inputs
        for role in item.roles
    ]
    if planned:
        session.execute(insert(PlannedInputRow), planned)
