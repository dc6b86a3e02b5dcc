"""What is kept beside outputs is switched when a campaign is submitted: junk and intermediate files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from nightmill.backbone.schema import FileRow, ReplicaRow
from nightmill.config.campaign import load_campaign
from nightmill.errors import ConfigErrors, PlanRefused
from nightmill.model.origin import Origin
from nightmill.operations.find import find
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.site import Site, open_site
from nightmill.operations.submit import submit
from tests.operations.nights import TYPES, stages
from tests.operations.test_bundles import carry_out
from tests.support.observatory import deliver


def kept(site: Site) -> dict[str, bool]:
    """Return the files that were made of two types, and whether each has a copy."""
    with site.database.reading() as session:
        query = select(FileRow.type, FileRow.name, ReplicaRow.id).outerjoin(ReplicaRow).order_by(FileRow.id)
        return {type_: copy is not None for type_, _name, copy in session.execute(query) if type_ in ("first", "junk")}


@pytest.mark.req("REQ-0014")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), {"first": False}),
        (("pipeline.intermediates=backbone",), {"first": True}),
        (("pipeline.junk=tar",), {"first": False, "junk": True}),
        (("pipeline.stages.measure.junk=tar", "pipeline.intermediates=quicklook"), {"junk": True}),
    ],
)
def test_what_is_kept_is_switched_at_submit(
    site: Site, tmp_path: Path, settings: tuple[str, ...], expected: dict[str, bool]
) -> None:
    types = site.config.directory / "file_types.yaml"
    types.write_text(types.read_text() + TYPES)
    site.close()
    pipeline = {"pipeline": "p", "version": "1", "parameters": {"sigma": 3.0}}
    measure = stages(tmp_path / "none", first_to="none")["measure"]
    measure["steps"][0]["argv"][2] += "; echo trace > trace.txt"
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({**pipeline, "stages": {"measure": measure}}))
    (tmp_path / "night1.yaml").write_text(yaml.safe_dump({"campaign": "night1", "pipeline": "pipeline.yaml"}))
    with open_site(site.config.directory) as again:
        ingest(again, deliver(tmp_path / "night", 1), type="raw_science", origin=Origin.RAW, who="ada")
        submit(again, load_campaign(tmp_path / "night1.yaml", settings), who="ada")
        carry_out(again, "measure")
        assert kept(again) == expected
        found = [each.row.type for each in find(again)]
        assert "junk" not in found, "no plan finds it"
        assert len(find(again, types=["junk"])) == ("junk" in expected)


def test_what_is_wrong_is_told(site: Site, tmp_path: Path) -> None:
    types = site.config.directory / "file_types.yaml"
    types.write_text(types.read_text() + TYPES)
    site.close()
    body = {"pipeline": "p", "version": "1", "parameters": {"sigma": 3.0}, "stages": stages(tmp_path, first_to="none")}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(body))
    (tmp_path / "night1.yaml").write_text(yaml.safe_dump({"campaign": "night1", "pipeline": "pipeline.yaml"}))
    with pytest.raises(ConfigErrors, match=r"junk.*'leave' or 'tar'"):
        load_campaign(tmp_path / "night1.yaml", ["pipeline.junk=zip"])
    with open_site(site.config.directory) as again:
        ingest(again, deliver(tmp_path / "night", 1), type="raw_science", origin=Origin.RAW, who="ada")
        with pytest.raises(PlanRefused, match="attic"):
            submit(again, load_campaign(tmp_path / "night1.yaml", ["pipeline.intermediates=attic"]), who="ada")
    types.write_text(types.read_text() + "  junk: {template: '{exposure}.txt'}\n")
    with pytest.raises(ConfigErrors, match="'junk' is a file type that nightmill has itself"):
        open_site(site.config.directory)
