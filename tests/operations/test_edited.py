"""A pipeline's folder that was edited after the submission: told, taken when asked for, and on record for ever."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from nightmill.backbone.schema import AttemptRow, AuditRow, JobRow, PlanRow
from nightmill.errors import RequestRefused
from nightmill.operations.bundle import jobs_per_bundle, sealed_bundle
from nightmill.operations.edited import Folder, diff
from nightmill.operations.find import find, why
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site
from nightmill.operations.submit import submit
from nightmill.planning.again import issued_orders
from provenance.lineage import lineage_of
from tests.operations.test_bundles import campaign_in, carry_out, filled
from tests.support.observatory import stored

SUBMITTED = 'case "$2" in *2.fits) exit 3;; esac; echo submitted > "$1"\n'
EDITED = 'echo edited > "$1"\n'


@pytest.fixture
def edited(site: Site, tmp_path: Path) -> Iterator[Site]:
    """Give a site whose campaign has a job that is done and one that failed, and whose pipeline was edited since."""
    site = filled(site, tmp_path)
    submit(site, campaign_in(tmp_path / "pipeline", SUBMITTED), who="ada")
    carry_out(site, "measure")
    (tmp_path / "pipeline" / "measure.sh").write_text(EDITED)
    (tmp_path / "pipeline" / "new.sh").write_text("true\n")
    yield site
    site.close()


def rows(site: Site) -> tuple[int, int]:
    with site.database.reading() as session:
        return len(session.scalars(select(PlanRow.id)).all()), len(session.scalars(select(AuditRow.id)).all())


def made(site: Site) -> list[bytes]:
    return [text for path, text in stored(site.config.directory).items() if path.endswith(".txt")]


@pytest.mark.req("X04")
def test_an_edit_is_told_and_nothing_is_done_until_somebody_says_what_counts(edited: Site, tmp_path: Path) -> None:
    before, folder = rows(edited), tmp_path / "pipeline"
    for act in (
        lambda: rerun(edited, "night1", who="ada"),
        lambda: submit(edited, campaign_in(folder, EDITED), who="ada"),
    ):
        with pytest.raises(RequestRefused) as told:
            act()
        assert told.value.message == (
            f"the folder {folder} was edited since campaign 'night1' was submitted: changed measure.sh; added new.sh"
        )
        assert told.value.remedy.startswith("say --edited to run what is not done with the folder as it is now")
    assert rows(edited) == before
    assert diff(edited, "night1").splitlines()[:2] == ["--- a/measure.sh", "+++ b/measure.sh"]
    assert '+echo edited > "$1"' in diff(edited, "night1")


@pytest.mark.req("X04")
@pytest.mark.parametrize("act", ["rerun", "submit"])
def test_what_is_not_done_runs_the_edited_folder_and_what_is_done_keeps_its_own(
    edited: Site, tmp_path: Path, act: str
) -> None:
    with edited.database.reading() as session:
        first = sealed_bundle(session, 1)
    assert first is not None
    if act == "rerun":
        assert rerun(edited, "night1", who="ada", folder=Folder.EDITED).left is None
    else:
        submit(edited, campaign_in(tmp_path / "pipeline", EDITED), who="ada", folder=Folder.EDITED)
    carry_out(edited, "measure")
    carry_out(edited, "again")
    assert sorted(made(edited)) == [b"edited\n"] * 3 + [b"submitted\n"], "a stage that is planned later sees it, too"
    with edited.database.reading() as session:
        second = sealed_bundle(session, 1)
        assert second is not None
        assert jobs_per_bundle(session, [1]) == {1: {first.digest: 1, second.digest: 3}}
        orders = {str(o.attempt): o for o in issued_orders(session, list(session.scalars(select(AttemptRow.id))))}
        found = lineage_of(session, "whole_0001_c0001a01.txt", "up")
        [detail] = [row.detail for row in session.scalars(select(AuditRow)) if "bundle" in row.detail]
    assert orders["night1/measure/exposure=2/a01"].bundle == first.order, "an order of the past is had again as it was"
    assert orders["night1/measure/exposure=2/a02"].bundle == second.order
    assert {str(node): node.bundle for node in found.executions.values()} == {
        "night1/measure/exposure=1/a01 measure": first.digest,
        "night1/again/exposure=1/a01 again": second.digest,
    }
    story = why(edited, "part_0001_c0001a01.txt")
    assert story.maker is not None
    assert story.maker.bundle == first.digest
    assert (detail["bundle"], detail["revised"]) == (second.digest, 1)


@pytest.mark.req("X04")
def test_the_folder_as_it_was_submitted_is_taken_where_that_is_said(edited: Site) -> None:
    plans, _acts = rows(edited)
    rerun(edited, "night1", who="ada", folder=Folder.AS_SUBMITTED)
    carry_out(edited, "measure")
    assert made(edited) == [b"submitted\n"]
    assert rows(edited)[0] == plans


def test_an_edit_that_was_taken_is_not_told_again(edited: Site) -> None:
    rerun(edited, "night1", who="ada", folder=Folder.EDITED)
    assert rerun(edited, "night1", who="ada").left is None
    assert diff(edited, "night1") == ""


def test_a_job_under_way_ends_with_the_folder_that_it_began_with(edited: Site) -> None:
    with edited.database.writing() as session:
        session.execute(update(JobRow).where(JobRow.state == "failed").values(state="active"))
    rerun(edited, "night1", who="ada", folder=Folder.EDITED)
    with edited.database.reading() as session:
        [attempt] = session.scalars(select(AttemptRow).where(AttemptRow.state == "failed"))
        job = session.get_one(JobRow, attempt.job_id)
        assert attempt.plan_id != job.plan_id, "its next attempt has the new one"


def test_bundles_are_found_where_they_are_asked_for(edited: Site) -> None:
    assert [each.row.type for each in find(edited, types=["bundle"])] == ["bundle"]
    assert "bundle" not in {each.row.type for each in find(edited)}


def test_a_folder_that_is_gone_is_not_missed_but_cannot_be_taken(edited: Site, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "pipeline")
    assert rerun(edited, "night1", who="ada").left is None
    with pytest.raises(RequestRefused, match="pipeline"):
        rerun(edited, "night1", who="ada", folder=Folder.EDITED)


def test_whether_it_was_edited_does_not_matter_where_every_job_is_done(site: Site, tmp_path: Path) -> None:
    site = filled(site, tmp_path)
    submit(site, campaign_in(tmp_path / "pipeline", EDITED), who="ada")
    carry_out(site, "measure")
    carry_out(site, "again")
    (tmp_path / "pipeline" / "measure.sh").write_text("exit 1\n")
    assert rerun(site, "night1", who="ada").left == 0
    site.close()
