"""From reports to rows: what becomes visible when, and that nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nightmill.backbone import leases
from nightmill.backbone.catalogue import NewFile, find, register
from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    CalibrationRow,
    DeliveryRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    JobRow,
    ReplicaRow,
    SoftwareRow,
)
from nightmill.model.fate import AttemptState, Fate, JobState, Origin
from nightmill.model.journal import Checked, Done, Entry, JobReport, Publishing, StepBegan, StepEnded, fold, stacks
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Calibration
from provenance.record import Recorded, record
from tests.support.backbone import NOW, dump, issue, results, take_lease
from tests.support.orders import BEGINS, Bench, fits_bytes, output, shell

LATER = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)


def science(bench: Bench, unit: int = 12, *, number: int = 1, fails: bool = False) -> JobOrder:
    """Make a job of two steps: frame → flattened image (not kept) → catalogue (kept) and preview (delivered)."""
    frame = bench.put(f"frame{unit}.fits", fits_bytes(AIRMASS=1.25))
    tag = f"{unit}a{number:02d}"
    flat = output("flat", f"flat{tag}.fits", type="image", store="")
    catalog = output("catalog", f"cat{tag}.txt")
    preview = output("preview", f"pre{tag}.txt", store="quicklook")
    make = "exit 1" if fails else f"echo {unit} > cat{tag}.txt; echo p > pre{tag}.txt"
    return bench.order(
        shell("flatten", f"cp ../inputs/{frame.name} flat{tag}.fits", flat, inputs=(frame.name,)),
        shell("detect", make, catalog, preview, inputs=flat.names),
        inputs=(frame,),
        unit=f"exposure={unit}",
        number=number,
    )


def tell(database: Database, entries: Iterable[Entry], *, reports: Sequence[JobReport] | None = None) -> Recorded:
    """Record the fold of entries (or chosen reports of it)."""
    told = list(entries)
    chosen = list(fold(told).values()) if reports is None else reports
    return database.write(lambda session: record(session, chosen, stacks(told), who="ada", now=LATER))


def issued(database: Database, *orders: JobOrder) -> None:
    database.write(lambda session: issue(session, *orders))


def job_states(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return dict(session.execute(select(JobRow.unit, JobRow.state)).tuples().all())


def attempts(database: Database) -> list[tuple[int, str, str | None, bool]]:
    with database.reading() as session:
        columns = select(AttemptRow.number, AttemptRow.state, AttemptRow.fate, AttemptRow.result).order_by(
            AttemptRow.id
        )
        return list(session.execute(columns).tuples())


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


@pytest.mark.req("B49")
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
            assert (row.host, row.argv, row.environment) == (report.host, list(step.argv), {})
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
            packages = session.scalars(select(SoftwareRow.packages).where(SoftwareRow.id == row.software_id)).one()
            assert packages["nightmill"]


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


# --------------------------------------------------------------------------------- twice, late, out of order


def test_recording_twice_changes_nothing(bench: Bench, database: Database) -> None:
    orders = [science(bench, 1), science(bench, 2, fails=True), science(bench, 3)]
    issued(database, *orders)
    bench.run(*orders)
    entries = bench.entries()
    tell(database, entries)
    before = dump(database)
    assert tell(database, entries) == Recorded()
    assert tell(database, entries[:-3]) == Recorded()
    assert dump(database) == before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_reports_in_any_split_and_any_order_come_to_the_same(
    bench: Bench, postgres_free_url: str, data: st.DataObject
) -> None:
    orders = [science(bench, 1), science(bench, 2, fails=True)]
    if not bench.entries():
        bench.run(*orders)
    entries = bench.entries()
    prefixes = [list(fold(entries[:end]).values()) for end in range(1, len(entries) + 1)]
    reports = [report for reports in prefixes for report in reports]
    chosen = data.draw(st.lists(st.sampled_from(reports), max_size=12))
    calls = data.draw(st.lists(st.integers(0, 3), min_size=len(chosen), max_size=len(chosen)))
    database = Database(postgres_free_url)
    with database.engine.begin() as connection:
        for table in reversed(AttemptRow.metadata.sorted_tables):
            connection.execute(table.delete())
    issued(database, *orders)
    for call in range(4):
        tell(database, entries, reports=[report for report, at in zip(chosen, calls, strict=True) if at == call])
    tell(database, entries)
    with database.reading() as session:
        found = results(session)
        uses = session.execute(select(ExecutionRow.step, InputUseRow.role, FileRow.name).select_from(InputUseRow)
                               .join(ExecutionRow).join(FileRow)).tuples().all()  # fmt: skip
        states = session.execute(select(ExecutionRow.step, ExecutionRow.state)).tuples().all()
    database.close()
    assert {unit: result["state"] for unit, result in found.items()} == {"exposure=1": "done", "exposure=2": "failed"}
    assert sorted(uses) == [
        ("detect", "flat", "flat1a01.fits"),
        ("flatten", "frame", "frame1.fits"),
        ("flatten", "frame", "frame2.fits"),
    ]
    assert sorted(states) == [
        ("detect", "failed"),
        ("detect", "succeeded"),
        ("flatten", "succeeded"),
        ("flatten", "succeeded"),
    ]


@pytest.fixture
def postgres_free_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a SQLite database with the schema."""
    url = f"sqlite:///{tmp_path_factory.mktemp('database')}/nightmill.db"
    database = Database(url)
    database.create()
    database.close()
    return url


def test_an_older_report_does_not_set_a_running_attempt_back(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    entries = bench.entries()
    second = [n for n, entry in enumerate(entries) if isinstance(entry, StepBegan)][1]
    tell(database, entries[: second + 1])
    before = dump(database)
    for end in range(1, second + 2):
        assert tell(database, entries[:end]) == Recorded()
    assert dump(database) == before


def test_an_attempt_given_up_as_lost_may_still_report_its_end(bench: Bench, database: Database) -> None:
    order = science(bench)
    lease = database.write(take_lease)
    database.write(lambda session: issue(session, order, lease_id=lease))
    bench.run_one(order)
    entries = bench.entries()
    checked = next(n for n, entry in enumerate(entries) if isinstance(entry, Checked))
    tell(database, entries[: checked + 1])
    assert database.write(lambda session: leases.give_up(session, [lease], now=NOW)) == 1
    assert attempts(database) == [(1, "lost", "lost", False)]
    assert tell(database, entries) == Recorded(published=[order.attempt])
    assert attempts(database) == [(1, "published", "published", True)]
    assert job_states(database) == {"exposure=12": "done"}


def test_a_reported_loss_may_be_followed_by_the_real_end(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    entries = bench.entries()
    end = Done(attempt=order.attempt, at=NOW, state=AttemptState.LOST, fate=Fate.LOST)
    tell(database, [*entries[:-2], end])
    assert job_states(database) == {"exposure=12": "failed"}
    assert tell(database, entries) == Recorded(published=[order.attempt])
    assert job_states(database) == {"exposure=12": "done"}
    assert tell(database, [*entries[:-2], end]) == Recorded()


def test_of_two_that_published_the_first_recorded_is_the_result(bench: Bench, database: Database) -> None:
    first, second = science(bench, number=1), science(bench, number=2)
    issued(database, first, second)
    bench.run(first, second)
    reports = {report.attempt: report for report in fold(bench.entries()).values()}
    assert tell(database, bench.entries(), reports=[reports[second.attempt]]) == Recorded(published=[second.attempt])
    assert tell(database, bench.entries()) == Recorded(superseded=[first.attempt])
    assert attempts(database) == [(1, "published", "published", False), (2, "published", "published", True)]
    with database.reading() as session:
        assert [row.name for row in find(session, types=["text"])] == ["cat12a02.txt"]
        everything = [row.name for row in find(session, types=["text"], all=True)]
        assert sorted(everything) == ["cat12a01.txt", "cat12a02.txt"]


@pytest.mark.parametrize("fails", [True, False])
def test_two_attempts_of_a_job_in_one_call(bench: Bench, database: Database, fails: bool) -> None:
    first, second = science(bench, number=1), science(bench, number=2, fails=fails)
    issued(database, first, second)
    bench.run(first, second)
    told = tell(database, bench.entries())
    assert told == (
        Recorded(published=[first.attempt], failed=[second.attempt])
        if fails
        else Recorded(published=[first.attempt], superseded=[second.attempt])
    )
    assert job_states(database) == {"exposure=12": "done"}


def test_the_end_of_an_earlier_attempt_leaves_a_job_active_that_is_tried_again(
    bench: Bench, database: Database
) -> None:
    first, second = science(bench, number=1, fails=True), science(bench, number=2)
    issued(database, first, second)
    bench.run_one(first)
    tell(database, bench.entries())
    assert job_states(database) == {"exposure=12": "active"}


def test_a_cancelled_job_stays_cancelled_when_its_attempt_fails(bench: Bench, database: Database) -> None:
    order = science(bench, fails=True)
    issued(database, order)
    bench.run_one(order)

    def cancel(session: object) -> None:
        session.scalars(select(JobRow)).one().state = JobState.CANCELLED.value  # type: ignore[attr-defined]

    database.write(cancel)
    tell(database, bench.entries())
    assert job_states(database) == {"exposure=12": "cancelled"}


def test_an_attempt_that_nobody_issued_is_told_and_nothing_recorded(bench: Bench, database: Database) -> None:
    known, unknown = science(bench, 1), science(bench, 2)
    issued(database, known)
    bench.run(known, unknown)
    assert tell(database, bench.entries()) == Recorded(published=[known.attempt], unknown=[unknown.attempt])
    assert job_states(database) == {"exposure=1": "done"}
    with database.reading() as session:
        assert "cat2a01.txt" not in session.scalars(select(FileRow.name)).all()


def test_a_name_that_was_registered_meanwhile_fails_that_attempt_alone(bench: Bench, database: Database) -> None:
    good, late = science(bench, 1), science(bench, 2)
    issued(database, good, late)
    bench.run(good, late)

    def bring(session: object) -> None:
        stranger = NewFile("cat2a01.txt", "text", Origin.MANUAL, 3, "1" * 64, provenance="from Eve")
        register(session, [stranger], who="eve", now=NOW)  # type: ignore[arg-type]

    database.write(bring)
    assert tell(database, bench.entries()) == Recorded(published=[good.attempt], failed=[late.attempt])
    assert job_states(database) == {"exposure=1": "done", "exposure=2": "failed"}
    with database.reading() as session:
        row = session.scalars(select(AttemptRow).join(JobRow).where(JobRow.unit == "exposure=2")).one()
        assert (row.fate, row.evidence) == (
            "name_collision",
            "other files were registered by these names since it was planned: cat2a01.txt",
        )
        assert session.scalars(select(FileRow.name).where(FileRow.attempt_id == row.id)).all() == [late.log_name]


def test_very_many_reports_in_one_call(bench: Bench, database: Database) -> None:
    orders = [bench.order(shell("s", ":"), unit=f"exposure={number}") for number in range(3)]
    bench.run(*orders)
    sample = list(fold(bench.entries()).values())
    reports: list[JobReport] = []
    many: list[JobOrder] = []
    for number in range(1200):
        report = sample[number % 3]
        order = bench.order(*report.order.steps, unit=f"exposure={number}")
        files = tuple(
            file.model_copy(update={"name": order.log_name, "path": order.log_path}) for file in report.published
        )
        many.append(order)
        reports.append(
            report.model_copy(update={"attempt": order.attempt, "order": order, "published": files, "intended": files})
        )
    issued(database, *many)
    assert len(tell(database, bench.entries(), reports=reports).published) == 1200
    assert set(job_states(database).values()) == {"done"}
