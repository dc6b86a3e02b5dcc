"""From reports to rows: what becomes visible when, and that nothing is written twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from nightmill.backbone.catalogue.file_warnings import warned_in
from nightmill.backbone.catalogue.files import find
from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    CalibrationRow,
    DeliveryRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    ReplicaRow,
    SoftwareRow,
)
from nightmill.backbone.work.campaigns import campaigns
from nightmill.model.calibration import Calibration
from nightmill.model.fate import Fate
from nightmill.model.file_type import Checks
from nightmill.model.fit import misfit
from nightmill.model.journal import Done, Entry, Publishing, SoftwareSeen, StepBegan, StepEnded, StepObserved
from nightmill.model.report import fold, stacks
from nightmill.model.software import Stack
from nightmill.model.states import AttemptState
from provenance.history import job_history
from provenance.record import Recorded
from tests.provenance.jobs import attempts, issued, job_states, science, tell
from tests.support.backbone import NOW
from tests.support.orders import BEGINS, Bench, output, shell

# ------------------------------------------------------------------------------------------ what is written


@pytest.mark.req("B36", "B38")
def test_intermediate_files_have_rows_and_edges_though_they_are_not_kept(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    tell(database, bench.entries())
    with database.reading() as session:
        flat = session.scalars(select(FileRow).where(FileRow.name == "flat12a01.fits")).one()
        assert (flat.type, flat.exposure, flat.detector, flat.attributes) == ("image", 12, 3, {"airmass": 1.25})
        assert (flat.origin, flat.begins_at, flat.registered_by) == ("batch", BEGINS, "ada")
        assert session.scalars(select(ReplicaRow).where(ReplicaRow.file_id == flat.id)).all() == []
        made_flat = session.execute(
            select(ExecutionRow.step, GenerationRow.role).join(GenerationRow).where(GenerationRow.file_id == flat.id)
        )
        assert made_flat.tuples().all() == [("flatten", "flat")]
        used_flat = session.execute(
            select(ExecutionRow.step, InputUseRow.role).join(InputUseRow).where(InputUseRow.file_id == flat.id)
        )
        assert used_flat.tuples().all() == [("detect", "flat")]


@pytest.mark.req("B37")
def test_edges_are_per_step(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    tell(database, bench.entries())
    with database.reading() as session:
        used = select(ExecutionRow.step, FileRow.name).join(InputUseRow, InputUseRow.execution_id == ExecutionRow.id)
        made = select(ExecutionRow.step, FileRow.name).join(
            GenerationRow, GenerationRow.execution_id == ExecutionRow.id
        )
        assert set(session.execute(used.join(FileRow, FileRow.id == InputUseRow.file_id)).tuples()) == {
            ("flatten", "frame12.fits"),
            ("detect", "flat12a01.fits"),
        }
        assert set(session.execute(made.join(FileRow, FileRow.id == GenerationRow.file_id)).tuples()) == {
            ("flatten", "flat12a01.fits"),
            ("detect", "cat12a01.txt"),
        }


def test_the_execution_record(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    report = bench.run_one(order)
    tell(database, bench.entries())
    with database.reading() as session:
        rows = session.scalars(select(ExecutionRow).order_by(ExecutionRow.position)).all()
        for row, step in zip(rows, report.steps, strict=True):
            cost = step.cost
            assert cost is not None
            assert (row.step, row.state, row.exit_code, row.signal) == (step.name, "succeeded", 0, None)
            assert (row.host, row.argv, row.environment) == (report.host, list(step.argv), step.environment)
            assert "PATH" in row.environment
            assert (row.began_at, row.ended_at) == (step.began_at, step.ended_at)
            assert (row.wall_seconds, row.user_seconds, row.system_seconds) == (
                cost.wall_seconds,
                cost.user_seconds,
                cost.system_seconds,
            )
            assert (row.max_rss_bytes, row.read_bytes, row.written_bytes) == (
                cost.max_rss_bytes,
                cost.read_bytes,
                cost.written_bytes,
            )
            software = session.scalars(select(SoftwareRow).where(SoftwareRow.id == row.software_id)).one()
            assert software.packages["distributions"]["nightmill"]
            stack = Stack.read(software.packages)
            assert (software.sha256, software.bare_sha256) == (step.software, stack.bare_sha256)
            assert stack.sha256 == step.software


def test_libraries_that_a_witness_saw_are_part_of_the_software_on_record(bench: Bench, database: Database) -> None:
    """They are known once the step ended: until then its row has the stack that was known before."""
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    entries = bench.entries()
    seen = next(entry for entry in entries if isinstance(entry, SoftwareSeen))
    assert seen.stack is not None
    more = seen.stack.model_copy(update={"libraries": {"/usr/lib/libsky.so": "sha256:1"}})
    more = Stack.model_validate(more.content)
    told: list[Entry] = [SoftwareSeen(sha256=more.sha256, stack=more)]
    for entry in entries:
        if isinstance(entry, StepObserved):
            observed = entry.observed.model_copy(update={"software": more.sha256})
            told.append(entry.model_copy(update={"observed": observed}))
        else:
            told.append(entry)
    [report] = fold(told).values()
    assert misfit(report, stacks(told)) == ""
    assert "nothing is told of the software" in misfit(report, stacks(entries))
    began = next(index for index, entry in enumerate(told) if isinstance(entry, StepEnded))
    for known in (told[:began], told):
        tell(database, known)
    with database.reading() as session:
        query = select(SoftwareRow.packages).join(ExecutionRow, ExecutionRow.software_id == SoftwareRow.id)
        assert [found["libraries"] for found in session.scalars(query)] == [{"/usr/lib/libsky.so": "sha256:1"}] * 2


def test_a_published_attempt_is_the_jobs_result_with_its_log_and_deliveries(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    assert tell(database, bench.entries()) == Recorded(published=[order.attempt])
    assert job_states(database) == {"exposure=12": "done"}
    assert attempts(database) == [(1, "published", "published", True)]
    with database.reading() as session:
        kept = select(FileRow.name, ReplicaRow.path).join(ReplicaRow).where(FileRow.origin == "batch")
        assert set(session.execute(kept).tuples()) == {
            ("cat12a01.txt", "products/cat12a01.txt"),
            (order.log_name, f"logs/{order.log_name}"),
        }
        deliveries = session.execute(select(DeliveryRow.area, DeliveryRow.path)).tuples().all()
        assert deliveries == [("quicklook", "products/pre12a01.txt")]
        assert [row.name for row in find(session, types=["text"])] == ["cat12a01.txt"]


def test_an_output_that_is_a_calibration(bench: Bench, database: Database) -> None:
    role = Calibration(set="ccd", valid_days_after=30, maturity="certified")
    validity = {"valid_from": "2026-01-10T00:00:00+00:00", "valid_until": "2026-02-10T00:00:00+00:00"}
    order = bench.order(shell("s", "echo 1 > bias.txt", output("master", "bias.txt", calibration=role, **validity)))
    issued(database, order)
    bench.run_one(order)
    tell(database, bench.entries())
    with database.reading() as session:
        row = session.scalars(select(CalibrationRow)).one()
        assert (row.set_name, row.maturity, row.who, row.why) == ("ccd", "certified", "ada", f"made by {order.attempt}")
        assert (row.valid_from, row.valid_until) == (
            datetime(2026, 1, 10, tzinfo=UTC),
            datetime(2026, 2, 10, tzinfo=UTC),
        )


@pytest.mark.req("B42")
def test_a_failed_attempt_registers_its_log_and_nothing_else(bench: Bench, database: Database) -> None:
    order = science(bench, fails=True)
    issued(database, order)
    bench.run_one(order)
    assert tell(database, bench.entries()) == Recorded(failed=[order.attempt])
    assert job_states(database) == {"exposure=12": "failed"}
    with database.reading() as session:
        attempt = session.scalars(select(AttemptRow)).one()
        assert (attempt.failed_step, attempt.fate, attempt.evidence) == (
            "detect",
            "step_failed",
            "step 'detect' exited with code 1",
        )
        made = session.scalars(select(FileRow.name).where(FileRow.origin == "batch")).all()
        assert made == [order.log_name]
        assert session.scalars(select(GenerationRow)).all() == []
        states = session.execute(select(ExecutionRow.step, ExecutionRow.state).order_by(ExecutionRow.position)).tuples()
        assert list(states) == [("flatten", "succeeded"), ("detect", "failed")]
        used = session.execute(select(ExecutionRow.step, InputUseRow.role).join(InputUseRow)).tuples().all()
        assert used == [("flatten", "frame")]


# ------------------------------------------------------------------------------------------- while it runs


@pytest.mark.req("B50", "B37")
def test_rows_and_edges_are_visible_while_a_step_runs_and_are_updated_at_its_end(
    bench: Bench, database: Database
) -> None:
    order = science(bench)
    issued(database, order)
    seen: list[tuple[str, list[tuple[str, str, bool]], list[str], int]] = []
    told: list[Entry] = []

    def follow(entry: Entry) -> None:
        told.append(entry)
        if isinstance(entry, StepBegan | StepEnded | Publishing):
            tell(database, told)
            with database.reading() as session:
                executions = select(ExecutionRow.step, ExecutionRow.state, ExecutionRow.ended_at.is_(None))
                rows = session.execute(executions.order_by(ExecutionRow.position)).tuples().all()
                state = session.scalars(select(AttemptRow.state)).one()
                used = session.scalars(select(InputUseRow.role)).all()
                files = len(session.scalars(select(FileRow).where(FileRow.origin == "batch")).all())
                seen.append((state, list(rows), list(used), files))

    bench.run_one(order, listener=follow)
    flatten, detect = ("flatten", "succeeded", False), ("detect", "succeeded", False)
    assert seen == [
        ("running", [("flatten", "running", True)], ["frame"], 0),
        ("checking", [flatten], ["frame"], 0),
        ("running", [flatten, ("detect", "running", True)], ["frame"], 0),
        ("checking", [flatten, detect], ["frame"], 0),
        ("publishing", [flatten, detect], ["frame"], 0),
    ]
    tell(database, told)
    assert job_states(database) == {"exposure=12": "done"}
    with database.reading() as session:
        assert sorted(session.scalars(select(InputUseRow.role)).all()) == ["flat", "frame"]


@pytest.mark.req("B50")
def test_a_kill_leaves_a_row_that_says_so(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    entries = bench.entries()
    began = [n for n, entry in enumerate(entries) if isinstance(entry, StepBegan)][-1]
    until_the_kill = entries[: began + 1]
    tell(database, until_the_kill)
    end = Done(attempt=order.attempt, at=NOW, state=AttemptState.LOST, fate=Fate.LOST, step="detect", evidence="died")
    assert tell(database, [*until_the_kill, end]) == Recorded(failed=[order.attempt])
    with database.reading() as session:
        states = session.execute(select(ExecutionRow.step, ExecutionRow.state).order_by(ExecutionRow.position)).tuples()
        assert list(states) == [("flatten", "succeeded"), ("detect", "lost")]
    assert attempts(database) == [(1, "lost", "lost", False)]
    assert job_states(database) == {"exposure=12": "failed"}


def test_a_file_that_a_step_reads_in_two_roles_is_kept_in_both(bench: Bench, database: Database) -> None:
    frame = bench.put("frame1.fits", b"counts").model_copy(update={"more_roles": ("flat",)})
    step = shell("copy", "cp ../inputs/frame1.fits made.txt", output("made", "made.txt"), inputs=(frame.name,))
    order = bench.order(step, inputs=(frame,))
    issued(database, order)
    bench.run_one(order)
    tell(database, bench.entries())
    tell(database, bench.entries())
    with database.reading() as session:
        assert sorted(session.scalars(select(InputUseRow.role))) == ["flat", "frame"]


def test_warnings_are_on_record_with_the_file_and_counted_for_the_campaign(bench: Bench, database: Database) -> None:
    order = science(bench)
    image = order.file_types["image"]
    warned = image.model_copy(update={"checks": Checks.model_validate({"warn": {"min_bytes/large": 1 << 20}})})
    order = order.model_copy(update={"file_types": {**order.file_types, "image": warned}})
    issued(database, order)
    bench.run_one(order)
    tell(database, bench.entries())
    tell(database, bench.entries())
    with database.reading() as session:
        [campaign] = campaigns(session)
        assert warned_in(session, [campaign.id]) == {campaign.id: {"min_bytes/large": 1}}
        [found] = find(session, warned=True)
        assert found.name == "flat12a01.fits"
        history = job_history(session, "night1", "science", order.attempt.unit)
        [[warning]] = [made.warnings for made in history.made if made.warnings]
    assert (warning.check, warning.reason) == ("min_bytes/large", "too_small")
    assert warning.message.endswith("of at least 1048576 bytes")
