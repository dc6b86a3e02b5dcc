"""A small observatory for the tests of planning: a camera of detectors, its file types, and a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import calibrations, registration
from nightmill.backbone.catalogue.registration import NewFile
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.database import Database
from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.backbone.work.campaigns import seal_campaign
from nightmill.backbone.work.slices import find_slice
from nightmill.config.server import ServerConfig
from nightmill.config.site import SiteConfig
from nightmill.model.calibration import Maturity
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import split
from nightmill.model.file_type import FileType
from nightmill.model.footprint import Tiling
from nightmill.model.found_file import FoundFile
from nightmill.model.order import JobOrder
from nightmill.model.origin import Origin
from nightmill.model.states import AttemptState, JobState
from nightmill.model.store import Store
from nightmill.planning.issue import issue
from nightmill.planning.plan import plan_campaign, plan_stage
from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.seal import Sealed, seal

NIGHT: Final = datetime(2026, 1, 10, 20, tzinfo=UTC)
WHO: Final = "observer"

_FITS = {
    "master_bias": "{instrument}_{detector:02d}_bias_c{campaign:04d}a{attempt:02d}.fits",
    "master_flat": "{instrument}_{detector:02d}_{band}_flat_c{campaign:04d}a{attempt:02d}.fits",
    "image": "{instrument}_{exposure:06d}_{detector:02d}_{role}_c{campaign:04d}a{attempt:02d}.fits",
    "catalog": "{instrument}_{exposure:06d}_{detector:02d}_cat_c{campaign:04d}a{attempt:02d}.fits",
    "cutout": "{instrument}_{exposure:06d}_{detector:02d}_cut{n:03d}_c{campaign:04d}a{attempt:02d}.fits",
}

BIAS: Final[Mapping[str, Any]] = {
    "name": "bias",
    "per": ["instrument", "detector"],
    "inputs": {"frames": {"type": "raw_bias", "min": 2, "max": None}},
    "steps": [
        {
            "name": "combine",
            "argv": ["{python}", "{pipeline_dir}/bias.py", "--output", "{outputs.master}", "{inputs.frames}"],
            "inputs": ["frames"],
            "outputs": {
                "master": {
                    "type": "master_bias",
                    "calibration": {"set": "ccd", "valid_days_before": 1, "valid_days_after": 30},
                }
            },
        }
    ],
}
SCIENCE: Final[Mapping[str, Any]] = {
    "name": "science",
    "per": ["exposure", "detector"],
    "inputs": {
        "raw": {"type": "raw_science"},
        "bias": {
            "type": "master_bias",
            "source": {"calibrations": ["ccd"]},
            "lookup": {"strategy": "nearest", "max_days": 30},
        },
    },
    "steps": [
        {
            "name": "reduce",
            "argv": ["{python}", "reduce.py", "--bias={inputs.bias}", "{inputs.raw}", "{outputs.image}"],
            "inputs": ["raw", "bias"],
            "outputs": {"image": {"type": "image"}},
        },
        {
            "name": "detect",
            "argv": ["{python}", "detect.py", "{inputs.image}", "{outputs.catalog}"],
            "inputs": ["image"],
            "outputs": {"catalog": {"type": "catalog"}},
        },
    ],
}
PIPELINE_YAML: Final = """\
pipeline: ccd
version: "1.0"
stages:
  science:
    per: [exposure, detector]
    inputs:
      raw: {type: raw_science}
      bias:
        type: master_bias
        source: {calibrations: [ccd]}
        lookup: {strategy: nearest, max_days: 30}
    steps:
      - name: reduce
        argv: [reduce, "{inputs.raw}", "{inputs.bias}", "{outputs.image}"]
        inputs: [raw, bias]
        outputs: {image: {type: image}}
"""
CAMPAIGN_YAML: Final = """\
campaign: night1
pipeline: pipeline.yaml
where: night == 20260110
"""


def file_types(**templates: str) -> dict[str, FileType]:
    """Give the camera's file types, some of them with other templates."""
    raw = {name: FileType(name=name, format="fits") for name in ("raw_bias", "raw_flat", "raw_science")}
    made = {name: FileType(name=name, template=template) for name, template in {**_FITS, **templates}.items()}
    return raw | made


def make_campaign(*stages: Mapping[str, Any], name: str = "night1", **changes: Any) -> Campaign:
    """Make a campaign of stages as a pipeline's YAML has them."""
    pipeline = {"name": "ccd", "version": "1.0", "stages": list(stages), "directory": "/pipelines/ccd"}
    return Campaign.model_validate({"name": name, "pipeline": pipeline, **changes})


def found(
    number: int,
    *,
    name: str = "",
    at: datetime | None = NIGHT,
    type: str = "raw_science",
    store: str = "backbone",
    seconds: float = 0.0,
    metadata: Mapping[str, Any] | None = None,
    **data_id: str | int,
) -> FoundFile:
    """Give a file as the catalogue would."""
    name = name or f"f{number}.fits"
    ends_at = None if at is None else at + timedelta(seconds=seconds)
    return FoundFile(
        number, name, type, 100, f"{number:064d}", data_id, at, ends_at, metadata or {}, store, f"raw/{name}"
    )


@dataclass
class World:
    """A site with a database, and short ways to fill it and to plan with it."""

    database: Database
    directory: Path
    types: dict[str, FileType] = field(default_factory=file_types)
    more_stores: Mapping[str, Store] = field(default_factory=dict)
    tilings: Mapping[str, Tiling] = field(default_factory=dict)
    now: datetime = NIGHT
    """When things are registered and sealed."""

    @property
    def site(self) -> SiteConfig:
        """The configuration of the site."""
        stores = {
            "backbone": Store(name="backbone", url=f"file://{self.directory}/backbone"),
            "quicklook": Store(name="quicklook", url=f"file://{self.directory}/areas", catalogued=False),
        }
        return SiteConfig(
            name="test",
            directory=self.directory,
            database_url=self.database.url,
            scratch=self.directory / "scratch",
            spool=self.directory / "spool",
            cache=self.directory / "cache",
            stores={**stores, **self.more_stores},
            file_types=self.types,
            server=ServerConfig(),
            tilings=self.tilings,
        )

    def register(self, files: Sequence[NewFile]) -> None:
        """Register files."""

        def work(session: Session) -> None:
            store_ids(session, self.site.stores)
            registration.register(session, files, who=WHO, now=self.now)

        self.database.write(work)

    def add_raw(
        self,
        type: str,
        exposures: Iterable[int],
        detectors: Iterable[int] = (1, 2),
        *,
        night: datetime = NIGHT,
        stored: bool = True,
        metadata: Mapping[str, Any] | None = None,
        **data_id: str | int,
    ) -> None:
        """Register raw files of exposures, a minute apart, with a file a detector."""
        detectors = list(detectors)
        self.register(
            [
                NewFile(
                    name := f"{type}_{exposure:06d}_{detector:02d}.fits",
                    type,
                    Origin.RAW,
                    100,
                    "0" * 64,
                    {
                        "instrument": "nmcam",
                        "night": int(f"{night:%Y%m%d}"),
                        "exposure": exposure,
                        "detector": detector,
                        **data_id,
                    },
                    night + timedelta(minutes=exposure),
                    night + timedelta(minutes=exposure + 1),
                    metadata=metadata or {},
                    store="backbone" if stored else None,
                    path=f"raw/{name}" if stored else None,
                )
                for exposure in exposures
                for detector in detectors
            ]
        )

    def add_calibration(
        self,
        name: str,
        *,
        detector: int,
        set_name: str = "ccd",
        at: datetime = NIGHT,
        days: float = 30,
        maturity: Maturity = Maturity.CERTIFIED,
        type: str = "master_bias",
        **data_id: str | int,
    ) -> None:
        """Register a manual file as a calibration of a set, valid for some days before and after its time."""
        data_id = {"instrument": "nmcam", "detector": detector, **data_id}
        file = NewFile(name, type, Origin.MANUAL, 100, "1" * 64, data_id, at, at, provenance="made by hand")
        self.register([replace_store(file)])
        self.database.write(
            lambda session: calibrations.add(
                session,
                [name],
                set_name,
                valid_from=at - timedelta(days=days),
                valid_until=at + timedelta(days=days),
                maturity=maturity,
                who=WHO,
                why="",
                now=self.now,
            )
        )

    def plan(self, campaign: Campaign, number: int = 1) -> CampaignPlan:
        """Plan a campaign."""
        with self.database.reading() as session:
            return plan_campaign(session, campaign, self.site, number)

    def plan_stage(self, campaign: Campaign, stage: str, number: int = 1) -> StagePlan:
        """Plan a stage from what is there."""
        with self.database.reading() as session:
            return plan_stage(session, campaign, stage, self.site, number)

    def seal(self, campaign: Campaign, stage: str) -> Sealed:
        """Submit a campaign, plan a stage of it and seal the plan."""
        return self.seal_plan(campaign, self.plan_stage(campaign, stage, self.submit(campaign)))

    def submit(self, campaign: Campaign) -> int:
        """Put a campaign on record and return its number."""
        return self.database.write(lambda session: seal_campaign(session, campaign, who=WHO, now=NIGHT).id)

    def seal_plan(self, campaign: Campaign, plan: StagePlan) -> Sealed:
        """Seal the plan of a stage of a campaign that was submitted."""

        def work(session: Session) -> Sealed:
            row = seal_campaign(session, campaign, who=WHO, now=NIGHT)
            return seal(session, row, plan, now=self.now)

        return self.database.write(work)

    def issue(
        self, stage: str, *, campaign: str = "night1", limit: int = 1000, skip: Sequence[str] = (), number: int = 0
    ) -> list[JobOrder]:
        """Issue attempts of a slice of a stage."""

        def work(session: Session) -> list[JobOrder]:
            slice_id = find_slice(session, campaign, stage, number).slice_id
            return issue(session, slice_id=slice_id, lease_id=None, now=NIGHT, limit=limit, skip=skip)

        return self.database.write(work)

    def end(self, order: JobOrder, *, published: bool = True) -> None:
        """End an attempt as the record of its report would: its outputs become files of the catalogue, or it failed."""

        def work(session: Session) -> None:
            job = session.scalars(
                select(JobRow)
                .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
                .where(
                    CampaignRow.name == order.attempt.campaign,
                    JobRow.stage == order.attempt.stage,
                    JobRow.unit == order.attempt.unit,
                )
            ).one()
            job.state = (JobState.DONE if published else JobState.FAILED).value
            state = AttemptState.PUBLISHED if published else AttemptState.FAILED
            attempt = session.scalars(
                update(AttemptRow)
                .where(AttemptRow.job_id == job.id, AttemptRow.number == order.attempt.number)
                .values(state=state.value, result=published, fate="published" if published else "step_failed")
                .returning(AttemptRow.id)
            ).one()
            files = [
                NewFile(
                    name,
                    output.type,
                    Origin.BATCH,
                    100,
                    "2" * 64,
                    split(output.data_id)[0],
                    order.begins_at,
                    order.ends_at,
                    metadata=split(output.data_id)[1],
                    store=output.store,
                    path=f"{output.directory}/{name}",
                )
                for step in order.steps
                for output in step.outputs
                for name in output.names
            ]
            if published:
                made_by = [attempt] * len(files)
                registration.register(session, files, who=WHO, now=NIGHT, attempt_ids=made_by)

        self.database.write(work)


def replace_store(file: NewFile) -> NewFile:
    """Give a file its copy in the backbone."""
    return replace(file, store="backbone", path=f"manual/{file.type}/{file.name}")


def changed(stage: Mapping[str, Any], role: str, **changes: Any) -> dict[str, Any]:
    """Give a stage with one of its inputs changed."""
    return {**stage, "inputs": {**stage["inputs"], role: {**stage["inputs"][role], **changes}}}


def use_set(name: str) -> dict[str, Any]:
    return changed(SCIENCE, "bias", source={"calibrations": [name]})


def write_campaign(folder: Path, more: str = "") -> Path:
    """Write a pipeline and a campaign of one science stage as YAML; return the campaign's path."""
    (folder / "pipeline.yaml").write_text(PIPELINE_YAML)
    campaign = folder / "campaign.yaml"
    campaign.write_text(CAMPAIGN_YAML + more)
    return campaign
