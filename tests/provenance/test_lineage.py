from __future__ import annotations

import pytest
from sqlalchemy import event, insert, select

from nightmill.backbone.catalogue.files import files_named
from nightmill.backbone.database import Database
from nightmill.backbone.schema import ExecutionRow, FileRow, GenerationRow, InputUseRow
from nightmill.errors import UnknownName
from nightmill.model.order import JobOrder
from nightmill.model.relations import Relation
from nightmill.model.report import fold, stacks
from provenance.history import job_history, maker_of
from provenance.lineage import Direction, Lineage, walk
from provenance.record import record
from tests.backbone.files import add_files, new_file
from tests.support.backbone import NOW, issue
from tests.support.orders import Bench, fits_bytes, output, shell


def carry_out(database: Database, bench: Bench, *orders: JobOrder) -> None:
    """Issue orders, run them, and record what they told."""
    database.write(lambda session: issue(session, *orders))
    bench.run(*orders)
    told = bench.entries()
    database.write(lambda session: record(session, list(fold(told).values()), stacks(told), now=NOW))


def science(bench: Bench, unit: int, *, number: int = 1, fails: bool = False) -> JobOrder:
    """Make a job of two steps: frame → flattened image (not kept) → catalogue."""
    frame = bench.put(f"frame{unit}.fits", fits_bytes(exposure=unit))
    tag = f"{unit}a{number:02d}"
    flat = output("flat", f"flat{tag}.fits", type="image", store="", data_id={})
    catalog = output("catalog", f"cat{tag}.txt")
    return bench.order(
        shell("flatten", f"cp ../inputs/{frame.name} flat{tag}.fits", flat, inputs=(frame.name,)),
        shell("detect", "exit 1" if fails else f"echo {unit} > cat{tag}.txt", catalog, inputs=flat.names),
        inputs=(frame,),
        unit=f"exposure={unit}",
        number=number,
    )


def lineage(database: Database, name: str, direction: Direction, *, depth: int | None = None) -> Lineage:
    with database.reading() as session:
        return walk(session, files_named(session, [name])[name].id, direction, depth=depth)


def nodes(found: Lineage) -> list[str]:
    return sorted(node.name for node in found.files.values())


def runs(found: Lineage) -> list[str]:
    return sorted(str(execution) for execution in found.executions.values())


@pytest.mark.req("B37", "B38")
def test_the_chain_from_raw_to_final_passes_through_files_that_were_not_kept(database: Database, bench: Bench) -> None:
    carry_out(database, bench, science(bench, 1), science(bench, 2))
    up = lineage(database, "cat1a01.txt", "up")
    assert nodes(up) == ["cat1a01.txt", "flat1a01.fits", "frame1.fits"]
    assert runs(up) == ["night1/science/exposure=1/a01 detect", "night1/science/exposure=1/a01 flatten"]
    kept = {node.name: node.kept for node in up.files.values()}
    assert kept == {"cat1a01.txt": True, "flat1a01.fits": False, "frame1.fits": True}
    edges = {
        relation: {(up.executions[edge.execution_id].step, edge.role, up.files[edge.file_id].name) for edge in edges}
        for relation, edges in up.edges.items()
    }
    assert edges == {
        Relation.USED: {("detect", "flat", "flat1a01.fits"), ("flatten", "frame", "frame1.fits")},
        Relation.WAS_GENERATED_BY: {("detect", "catalog", "cat1a01.txt"), ("flatten", "flat", "flat1a01.fits")},
    }
    down = lineage(database, "frame2.fits", "down")
    assert nodes(down) == ["cat2a01.txt", "flat2a01.fits", "frame2.fits"]
    assert down.complete


def through_files_off_record(bench: Bench) -> JobOrder:
    """Make a job of three steps that hand on files without rows: of each input one as scratch, one in an area."""
    flat = bench.put("flat.fits", fits_bytes(exposure=1), role="flat")
    mask = bench.put("mask.fits", fits_bytes(exposure=2), role="mask")
    frame = bench.put("frame.fits", fits_bytes(exposure=3))
    cut = output("cut", type="", store="", produces="*.cut", max=2)
    look = output("look", "look.txt", store="quicklook")
    again = output("again", type="", store="", produces="again.fits", max=1)
    return bench.order(
        shell("cut", "cp ../inputs/flat.fits a.cut", cut, inputs=("flat.fits",)),
        shell("look", "wc -c ../inputs/mask.fits > look.txt", look, inputs=("mask.fits",)),
        shell("again", "cat ../outputs/a.cut ../outputs/look.txt > again.fits", again, inputs=("{cut}", "look.txt")),
        shell(
            "reduce",
            "cat ../inputs/frame.fits ../outputs/again.fits > made.txt",
            output("made", "made.txt"),
            inputs=("frame.fits", "mask.fits", "{again}"),
        ),
        inputs=(flat, mask, frame),
    )


@pytest.mark.req("B38")
def test_the_chain_passes_through_files_that_have_no_rows(database: Database, bench: Bench) -> None:
    order = through_files_off_record(bench)
    carry_out(database, bench, order)
    up = lineage(database, "made.txt", "up")
    assert nodes(up) == ["flat.fits", "frame.fits", "made.txt", "mask.fits"]
    assert runs(up) == ["night1/science/exposure=12,detector=3/a01 reduce"]
    down = lineage(database, "flat.fits", "down")
    assert nodes(down) == ["flat.fits", "made.txt"]
    with database.reading() as session:
        query = select(ExecutionRow.step, FileRow.name, InputUseRow.role, InputUseRow.planned)
        joined = query.join(InputUseRow, InputUseRow.execution_id == ExecutionRow.id).join(FileRow)
        uses = set(session.execute(joined).tuples())
    assert uses == {
        ("cut", "flat.fits", "flat", True),
        ("look", "mask.fits", "mask", True),
        ("again", "flat.fits", "flat", False),
        ("again", "mask.fits", "mask", False),
        ("reduce", "flat.fits", "flat", False),
        ("reduce", "frame.fits", "frame", True),
        ("reduce", "mask.fits", "mask", True),
    }, "what it read itself is planned, though it read it through a file without a row as well"


def test_a_file_that_nothing_made_or_used_stands_alone(database: Database, bench: Bench) -> None:
    carry_out(database, bench, science(bench, 1))
    assert nodes(lineage(database, "frame1.fits", "up")) == ["frame1.fits"]
    assert nodes(lineage(database, "cat1a01.txt", "down")) == ["cat1a01.txt"]


def test_failed_runs_show_what_read_a_file_and_made_nothing(database: Database, bench: Bench) -> None:
    carry_out(database, bench, science(bench, 1, fails=True))
    carry_out(database, bench, science(bench, 1, number=2))
    down = lineage(database, "frame1.fits", "down")
    assert nodes(down) == ["cat1a02.txt", "flat1a02.fits", "frame1.fits"]
    counts = {str(execution): execution.result for execution in down.executions.values()}
    assert counts["night1/science/exposure=1/a01 flatten"] is False
    assert counts["night1/science/exposure=1/a02 flatten"] is True


def test_depth_ends_a_walk_and_says_so(database: Database, bench: Bench) -> None:
    carry_out(database, bench, science(bench, 1))
    near = lineage(database, "cat1a01.txt", "up", depth=1)
    assert (nodes(near), near.complete) == (["cat1a01.txt", "flat1a01.fits"], False)
    far = lineage(database, "cat1a01.txt", "up", depth=2)
    assert (nodes(far), far.complete) == (["cat1a01.txt", "flat1a01.fits", "frame1.fits"], True)


@pytest.mark.parametrize("width", [2, 2000])
def test_a_level_costs_the_same_queries_whatever_its_width(database: Database, bench: Bench, width: int) -> None:
    carry_out(database, bench, science(bench, 1))
    with database.writing() as session:
        execution = session.query(ExecutionRow).first()
        assert execution is not None
        mosaic, *tiles = add_files(
            session, [new_file("mosaic.fits"), *(new_file(f"tile{number}.fits") for number in range(width))]
        )
        common = {"attempt_id": execution.attempt_id, "step": "s", "state": "succeeded", "argv": [], "environment": {}}
        first = 1000
        session.execute(
            insert(ExecutionRow),
            [
                {**common, "id": first + number, "position": 10 + number, "host": "h", "began_at": NOW}
                for number in range(width + 1)
            ],
        )
        session.execute(
            insert(InputUseRow),
            [{"execution_id": first, "file_id": tile, "role": "tile", "planned": True} for tile in tiles],
        )
        session.execute(
            insert(GenerationRow),
            [{"execution_id": first, "file_id": mosaic, "role": "mosaic"}]
            + [
                {"execution_id": first + number, "file_id": tile, "role": "tile"}
                for number, tile in enumerate(tiles, start=1)
            ],
        )
    queries: list[str] = []
    with database.reading() as session:
        event.listen(database.engine, "before_cursor_execute", lambda *event: queries.append(event[2]))
        up = walk(session, mosaic, "up")
    assert (len(up.files), len(up.executions)) == (width + 1, width + 1)
    assert len([query for query in queries if query.startswith("SELECT")]) <= 8


def test_the_history_of_a_job_tells_attempts_runs_and_files(database: Database, bench: Bench) -> None:
    carry_out(database, bench, science(bench, 1, fails=True))
    carry_out(database, bench, science(bench, 1, number=2))
    with database.reading() as session:
        job = job_history(session, "night1", "science", "exposure=1")
        assert [(each.number, each.state, each.fate, each.result) for each in job.attempts] == [
            (1, "failed", "step_failed", False),
            (2, "published", "published", True),
        ]
        assert job.shown is not None
        assert job.shown.number == 2
        assert [(run.step, run.state, run.exit_code) for run in job.executions] == [
            ("flatten", "succeeded", 0),
            ("detect", "succeeded", 0),
        ]
        run = job.executions[0]
        assert run.argv[:2] == ["sh", "-c"]
        assert run.wall_seconds is not None
        assert run.max_rss_bytes is not None
        assert run.software
        assert {(made.role, made.name, made.kept) for made in job.made} == {
            ("flat", "flat1a02.fits", False),
            ("catalog", "cat1a02.txt", True),
            ("log", "test_science_exposure1_a02.log", True),
        }
        first = job_history(session, "night1", "science", "exposure=1", number=1)
        assert [(run.step, run.state, run.exit_code) for run in first.executions] == [
            ("flatten", "succeeded", 0),
            ("detect", "failed", 1),
        ]
        made = files_named(session, ["cat1a02.txt"])["cat1a02.txt"]
        maker = maker_of(session, made.id)
        assert maker is not None
        assert (maker.attempt_name, maker.execution.step, maker.role) == (
            "night1/science/exposure=1/a02",
            "detect",
            "catalog",
        )
        assert maker_of(session, files_named(session, ["frame1.fits"])["frame1.fits"].id) is None


def test_unknown_jobs_and_attempts_are_named_with_a_guess(database: Database, bench: Bench) -> None:
    carry_out(database, bench, science(bench, 1))
    with database.reading() as session:
        with pytest.raises(UnknownName, match=r"no campaign named 'night2' \(did you mean 'night1'\?\)"):
            job_history(session, "night2", "science", "exposure=1")
        with pytest.raises(UnknownName, match=r"no job of campaign 'night1' named 'science/exposure=2' \(did you mean"):
            job_history(session, "night1", "science", "exposure=2")
        with pytest.raises(
            UnknownName, match=r"no attempt of night1/science/exposure=1 named 'a07' \(did you mean 'a01'"
        ):
            job_history(session, "night1", "science", "exposure=1", number=7)
