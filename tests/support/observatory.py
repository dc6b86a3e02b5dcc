"""The observatory of the tests: a small camera with the FITS files that it delivers, and a site with its own pipelines.

:func:`deliver` and its like write the camera's files, of :data:`FILE_TYPES`, for whoever makes a site.
:class:`Observatory` is a site whose exposures are texts, and whose steps wait, fail and succeed as these ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.database import Database
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.campaigns import JobLine
from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.config.site import load_site
from nightmill.model.origin import Origin
from nightmill.operations.identity import settle
from nightmill.operations.site import Site, open_site
from nightmill.operations.submit import submit
from tests.files.frames import fits_bytes

FILE_TYPES: Final = """\
file_types:
  raw_science:
    format: fits
    metadata:
      instrument: {keywords: [INSTRUME], required: true}
      exposure: {keywords: [EXPNUM], type: int, required: true}
      detector: {keywords: [CCDNUM], type: int, required: true}
      begins_at: {keywords: [DATE-OBS], type: time}
      exposure_seconds: {keywords: [EXPTIME], type: float, unit: s}
      ends_at: {compute: "end_of(begins_at, exposure_seconds)"}
      night: {compute: "night_of(begins_at, -70.8)"}
  raw_bias:
    format: fits
  mask:
    format: fits
    metadata: {detector: {keywords: [CCDNUM], type: int, required: true}}
  note: {}
"""


def frame(exposure: int = 1, **cards: object) -> bytes:
    """Make a raw exposure; cards that are None are left out."""
    return _frame(exposure, tuple(cards.items()))


@cache
def _frame(exposure: int, cards: tuple[tuple[str, object], ...]) -> bytes:
    header: Mapping[str, object] = {
        "INSTRUME": "cam",
        "EXPNUM": exposure,
        "CCDNUM": 1,
        "DATE-OBS": "2026-01-11T03:12:45",
        "EXPTIME": 30.0,
        "OBJECT": "M 67",
        **{name.replace("_", "-"): value for name, value in cards},
    }
    return fits_bytes({name: value for name, value in header.items() if value is not None}, {})


def meet_steps(site: Path) -> None:
    """Let steps of a site meet the test, in files outside of their scratches."""
    config = site / "nightmill.yaml"
    if "confinement:" not in (text := config.read_text()):
        config.write_text(text + "confinement: {use: off}\n")


def deliver(folder: Path, count: int, **cards: object) -> list[Path]:
    """Write some raw exposures, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"cam_{number:04d}.fits" for number in range(1, count + 1)]
    for number, path in enumerate(paths, start=1):
        path.write_bytes(_frame(number, tuple(cards.items())))
    return paths


def stored(site: Path) -> dict[str, bytes]:
    """Return the files of a site's store, with uploads that nothing has revealed."""
    root = site / "stores" / "backbone"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


_SITE = """
site: observatory
file_types: [file_types.yaml]
stores:
  backbone: {url: stores/backbone}
confinement: {use: off}  # its steps meet the tests, in files outside of their scratches
"""
_TYPES = """
file_types:
  raw: {description: An exposure}
  flat: {description: What an exposure of a campaign that wants one is divided by}
  product: {template: "{exposure:04d}_{file_type}_c{campaign:04d}a{attempt:02d}.txt"}
  summary: {template: "{night}_{file_type}_c{campaign:04d}a{attempt:02d}.txt"}
"""
_PIPELINE = """
pipeline: survey
version: "1.0"
stages:
  science:
    per: [exposure]
    retries: 1
    inputs:
      raw: {type: raw}
    steps:
      - name: detect
        argv: ["{python}", "STEP", "{outputs.product}", "{inputs.raw}"]
        inputs: [raw]
        outputs:
          product: {type: product}
  summary:
    per: [night]
    inputs:
      products: {type: product, source: {stage: science}, min: 1, max: null}
    steps:
      - name: join
        argv: ["{python}", "STEP", "{outputs.summary}", "{inputs.products}"]
        inputs: [products]
        outputs:
          summary: {type: summary}
"""
NIGHT = datetime(2026, 1, 10, 20, tzinfo=UTC)


@dataclass(frozen=True)
class Observatory:
    """The site; every call opens it anew, as every process does."""

    directory: Path

    @classmethod
    def build(cls, directory: Path, url: str = "") -> Observatory:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "nightmill.yaml").write_text(_SITE + (f'database: "{url}"\n' if url else ""))
        (directory / "file_types.yaml").write_text(_TYPES)
        (directory / "pipeline.yaml").write_text(_PIPELINE.replace("STEP", str(Path(__file__).with_name("step.py"))))
        (directory / "stores" / "backbone").mkdir(parents=True, exist_ok=True)
        config = load_site(directory)
        database = Database(config.database_url)
        database.create()
        settle(config, database)
        database.close()
        return cls(directory)

    def open(self) -> Site:
        return open_site(self.directory)

    def observe(self, night: int, texts: Sequence[str], *, type: str = "raw", first: int = 0) -> None:
        """Register an exposure for each text, numbered from ``100 * night``, or from the first after that."""
        files = []
        for number, text in enumerate(texts, start=100 * night + first):
            path = self.directory / "stores" / "backbone" / f"{type}{number}.txt"
            path.write_text(text)
            begins_at = NIGHT + timedelta(days=night, minutes=number)
            files.append(
                NewFile(
                    path.name,
                    type,
                    Origin.RAW,
                    len(text.encode()),
                    sha256(text.encode()).hexdigest(),
                    {"instrument": "nmcam", "night": night, "exposure": number},
                    begins_at,
                    begins_at + timedelta(seconds=30),
                    store="backbone",
                    path=path.name,
                )
            )
        with self.open() as site:
            site.database.write(lambda session: store_ids(session, site.config.stores))
            site.database.write(lambda session: register(session, files, who="observer", now=utc_now()))

    def submit(self, name: str, night: int, *settings: str) -> None:
        """Put a campaign over one night into the backbone."""
        file = self.directory / f"{name}.yaml"
        file.write_text(f'campaign: {name}\npipeline: pipeline.yaml\nwhere: "night == {night}"\n')
        with self.open() as site:
            submit(site, load_campaign(file, settings), who="observer")

    def jobs(self, name: str) -> dict[str, JobLine]:
        """Return the jobs of a campaign by their names."""
        with self.open() as site, site.database.reading() as session:
            return {line.name: line for line in campaigns.jobs(session, campaigns.campaign_named(session, name).id)}

    def states(self, name: str) -> dict[str, str]:
        """Return how the jobs of a campaign stand."""
        return {name: str(line.state) for name, line in self.jobs(name).items()}
