"""A night whose jobs run again in tests, and what they ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import func, select

from nightmill.backbone.schema import (
    AttemptRow,
    JobRow,
)
from nightmill.config.campaign import load_campaign
from nightmill.model.origin import Origin
from nightmill.operations.edited import Folder
from nightmill.operations.find import find
from nightmill.operations.foreseen import Foreseen
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site, open_site
from nightmill.operations.submit import submit
from nightmill.operations.wanted import Wanted, Which
from nightmill.planning.again import issued_orders
from tests.operations.test_bundles import carry_out
from tests.support.observatory import deliver, meet_steps

TYPES = """
  first: {template: "first_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
  second: {template: "second_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
  last: {template: "last_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
"""


def sh(script: str, *arguments: str) -> list[str]:
    return ["sh", "-c", script, "sh", *arguments]


def stages(broken: Path, first_to: str = "backbone", keep: bool = False) -> dict[str, Any]:
    """Two steps, of which the second fails where a file says so, and a stage that reads what it makes."""
    return {
        "measure": {
            "per": ["exposure"],
            "keep_on_failure": keep,
            "inputs": {"frame": {"type": "raw_science"}},
            "steps": [
                {
                    "name": "begin",
                    "argv": sh('echo begun > "$1"', "{outputs.first}", "{inputs.frame}"),
                    "inputs": ["frame"],
                    "outputs": {"first": {"type": "first", "to": first_to}},
                },
                {
                    "name": "end",
                    "argv": sh(
                        f'grep -q "^$3$" {broken} && exit 3; cat "$2" > "$1"; echo {{parameters.sigma}} >> "$1"',
                        "{outputs.second}",
                        "{inputs.first}",
                        "{unit.exposure}",
                    ),
                    "inputs": ["first"],
                    "outputs": {"second": {"type": "second"}},
                },
            ],
        },
        "sum": {
            "per": ["exposure"],
            "when": "any",
            "inputs": {
                "second": {"type": "second", "source": {"stage": "measure"}},
                **({} if first_to == "none" else {"first": {"type": "first", "source": {"stage": "measure"}}}),
            },
            "steps": [
                {
                    "name": "sum",
                    "argv": sh('cat "$2" > "$1"', "{outputs.last}", "{inputs.second}"),
                    "inputs": ["second"],
                    "outputs": {"last": {"type": "last"}},
                }
            ],
        },
    }


@contextmanager
def opened(site: Site, folder: Path, broken: Path, count: int = 3, **more: Any) -> Iterator[Site]:
    types = site.config.directory / "file_types.yaml"
    types.write_text(types.read_text() + TYPES)
    meet_steps(site.config.directory)
    site.close()
    with open_site(site.config.directory) as again:
        ingest(again, deliver(folder / "night", count), type="raw_science", origin=Origin.RAW, who="ada")
        pipeline = {"pipeline": "p", "version": "1", "parameters": {"sigma": 3.0}, "stages": stages(broken, **more)}
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
        (folder / "night1.yaml").write_text(yaml.safe_dump({"campaign": "night1", "pipeline": "pipeline.yaml"}))
        submit(again, load_campaign(folder / "night1.yaml"), who="ada")
        carry_out(again, "measure")
        with again.database.reading() as session:
            columns = (JobRow.unit, AttemptRow.failed_step, AttemptRow.evidence)
            ended = select(*columns).join(JobRow, JobRow.id == AttemptRow.job_id).where(~AttemptRow.result)
            failed = session.execute(ended).all()
        meant = broken.read_text().split() if broken.exists() else []
        wanted = [f"exposure={number}" for number in range(1, count + 1) if str(number) in meant]
        assert sorted((row.unit, row.failed_step) for row in failed) == [(unit, "end") for unit in wanted], failed
        yield again


def asked(site: Site, folder: Folder = Folder.AS_SUBMITTED, **wanted: Any) -> Foreseen:
    """Rerun as the verb does, for which an expression alone chooses done jobs too."""
    which = wanted.pop("which", Which.WHOLE if "where" in wanted else Which.FAILED)
    return rerun(site, "night1", who="ada", wanted=Wanted(which=which, **wanted), folder=folder).foreseen


def states(site: Site, stage: str = "measure") -> dict[str, str]:
    with site.database.reading() as session:
        return dict(session.execute(select(JobRow.unit, JobRow.state).where(JobRow.stage == stage)).tuples().all())


def tries(site: Site) -> list[str]:
    """Every order that was issued, had again; each must be what it was."""
    with site.database.reading() as session:
        ids = session.scalars(select(AttemptRow.id).order_by(AttemptRow.id)).all()
        return [str(order.attempt).removeprefix("night1/") for order in issued_orders(session, ids)]


def names(site: Site, type_: str) -> list[str]:
    return sorted(each.row.name for each in find(site, types=[type_]))


def units(foreseen: Foreseen) -> list[str]:
    return [job.name for job in foreseen.jobs]


def count(site: Site) -> int:
    with site.database.reading() as session:
        return session.scalar(select(func.count(AttemptRow.id))) or 0
