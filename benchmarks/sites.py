"""Sites that live as long as one benchmark, with the files that it works on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import yaml

from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.model.origin import Origin
from nightmill.operations.init import make_site
from nightmill.operations.site import Site, open_site
from tests.support.postgres import PostgresUnavailable, running_server

WHO: Final = "benchmark"
EPOCH: Final = datetime(2026, 1, 10, 20, tzinfo=UTC)
DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""What a PostgreSQL server must be to be compared: one that keeps what it has promised."""
REGISTERED: Final = 100_000
"""So many files are registered at once."""

_TYPES: Final = {
    "raw": {},
    "bias": {},
    "product": {"template": "product_{exposure:08d}_c{campaign:04d}a{attempt:02d}.dat"},
    "keyed": {
        "format": "fits",
        "template": "keyed_{serial:08d}_c{campaign:04d}a{attempt:02d}.dat",
        "metadata": {"serial": {"keywords": ["SERIAL"], "type": "int"}},
    },
}
"""Files of any format: what FITS costs is measured by the ingest alone. One has a key that is not a column."""
_NOTHING: Final[Mapping[str, object]] = {}


@contextmanager
def working_folder() -> Iterator[Path]:
    """Give a folder that is gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="nightmill-benchmark-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def new_site(
    folder: Path, database: str = "", types: Mapping[str, object] = _TYPES, settings: Mapping[str, object] = _NOTHING
) -> Iterator[Site]:
    """Make and open a site with file types of its own.

    Parameters
    ----------
    settings
        Keys of its configuration, beside those that a new site has.
    """
    folder.mkdir(parents=True)
    (folder / "file_types.yaml").write_text(yaml.safe_dump({"file_types": dict(types)}))
    make_site(folder, database=database).close()
    if settings:
        with (folder / "nightmill.yaml").open("a") as file:
            file.write(yaml.safe_dump(dict(settings)))
    with open_site(folder) as site:
        yield site


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """Give the URL of an empty database of each kind that can be had here, by the kind's name."""
    urls = {"SQLite": ""}
    try:
        with running_server(DURABLE) as server:
            yield urls | {"PostgreSQL": server.url(server.create())}
    except PostgresUnavailable:
        yield urls


def raw_names(count: int) -> list[str]:
    """Name raw files of exposures 1, 2, ..."""
    return [f"raw_{number:08d}.dat" for number in range(1, count + 1)]


def store_folder(site: Site) -> Path:
    """Return where the files of a site lie."""
    return Path(site.config.stores["backbone"].url.removeprefix("file://"))


def register_raw(site: Site, count: int, *, content: bytes | None = None) -> None:
    """Register raw files of one exposure each, a minute apart; their bytes too, where a content is given."""
    (store_folder(site) / "raw").mkdir()
    names = iter(enumerate(raw_names(count), start=1))
    while block := list(islice(names, REGISTERED)):
        files = _raw_files(site, block, content)
        site.database.write(lambda session, files=files: register(session, files, who=WHO, now=EPOCH))  # type: ignore[misc]


def _raw_files(site: Site, block: list[tuple[int, str]], content: bytes | None) -> list[NewFile]:
    digest = sha256(content or b"").hexdigest()
    files = []
    for number, name in block:
        if content is not None:
            (store_folder(site) / "raw" / name).write_bytes(content)
        begins_at = EPOCH + timedelta(minutes=number)
        files.append(
            NewFile(
                name=name,
                type="raw",
                origin=Origin.RAW,
                size_bytes=len(content or b""),
                sha256=digest,
                data_id={"exposure": number},
                metadata={"serial": number},
                begins_at=begins_at,
                ends_at=begins_at + timedelta(seconds=30),
                store="backbone",
                path=f"raw/{name}",
            )
        )
    return files


def write_campaign(
    folder: Path, name: str, stage: Mapping[str, object], execution: Mapping[str, object], *, where: str = ""
) -> Path:
    """Write a campaign of one stage, with its pipeline, and return the campaign's path."""
    folder = folder / "pipelines"  # of its own: all of it goes with each job
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = {"pipeline": "benchmark", "version": "1", "stages": {"copy": dict(stage)}}
    (folder / f"{name}-pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    campaign = {"campaign": name, "pipeline": f"{name}-pipeline.yaml", "execution": dict(execution), "where": where}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(campaign))
    return path


COPY_STEP: Final[Mapping[str, object]] = {
    "name": "copy",
    "argv": ["cp", "{inputs.raw}", "{outputs.product}"],
    "inputs": ["raw"],
    "outputs": {"product": {"type": "product"}},
}
COPY_STAGE: Final[Mapping[str, object]] = {
    "per": ["exposure"],
    "inputs": {"raw": {"type": "raw"}},
    "steps": [COPY_STEP],
}
"""A trivial job: one input, one output, a step that copies the one to the other."""
