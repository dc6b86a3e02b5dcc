"""Reports that come twice, late, in any order, or of attempts that are not the first."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.files import find
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    ExecutionRow,
    FileRow,
    InputUseRow,
    JobRow,
    SiteRow,
)
from nightmill.backbone.work import leases
from nightmill.model.fate import Fate
from nightmill.model.journal import Checked, Done, StepBegan
from nightmill.model.order import JobOrder
from nightmill.model.origin import Origin
from nightmill.model.report import JobReport, fold
from nightmill.model.states import AttemptState, JobState
from provenance.record import Recorded
from tests.provenance.jobs import attempts, issued, job_states, science, tell
from tests.support.backbone import NOW, dump, issue, results, take_lease
from tests.support.orders import Bench, shell


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


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
            if table.name != SiteRow.__tablename__:
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


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.CANCELLED])
def test_an_attempt_that_was_given_up_may_still_report_its_end(bench: Bench, database: Database, fate: Fate) -> None:
    order = science(bench)
    lease = database.write(take_lease)
    database.write(lambda session: issue(session, order, lease_id=lease))
    bench.run_one(order)
    entries = bench.entries()
    checked = next(n for n, entry in enumerate(entries) if isinstance(entry, Checked))
    tell(database, entries[: checked + 1])
    with database.writing() as session:
        if fate is Fate.LOST:
            assert leases.give_up(session, [lease], now=NOW) == 1
        else:
            leases.release(session, lease, now=NOW)
    assert attempts(database) == [(1, fate, fate, False)]
    with database.reading() as session:
        assert set(session.scalars(select(ExecutionRow.state))) == {"succeeded"}
    assert job_states(database) == {"exposure=12": fate.job_state}
    assert tell(database, entries) == Recorded(published=[order.attempt])
    assert attempts(database) == [(1, "published", "published", True)]
    assert job_states(database) == {"exposure=12": "done"}


def test_the_job_of_a_cancelled_attempt_is_ready_to_be_issued_again(bench: Bench, database: Database) -> None:
    order = science(bench)
    issued(database, order)
    bench.run_one(order)
    entries = bench.entries()
    end = Done(attempt=order.attempt, at=NOW, state=AttemptState.CANCELLED, fate=Fate.CANCELLED)
    assert tell(database, [*entries[:-2], end]) == Recorded(failed=[order.attempt])
    assert attempts(database) == [(1, "cancelled", "cancelled", False)]
    assert job_states(database) == {"exposure=12": "ready"}


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

    def cancel(session: Session) -> None:
        session.scalars(select(JobRow)).one().state = JobState.CANCELLED.value

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

    def bring(session: Session) -> None:
        stranger = NewFile("cat2a01.txt", "text", Origin.MANUAL, 3, "1" * 64, provenance="from Eve")
        register(session, [stranger], who="eve", now=NOW)

    database.write(bring)
    told = tell(database, bench.entries())
    assert (told.published, told.failed) == ([good.attempt], [late.attempt])
    [(_attempt_id, gone)] = told.collided
    assert sorted(file.name for file in gone) == ["cat2a01.txt", "pre2a01.txt"], "the caller is to remove them"
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
