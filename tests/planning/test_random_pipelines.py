"""Random pipelines: units, inputs and names are those that a small model works out, file by file.

A stand-in carries the jobs out, so that later stages take what earlier ones made.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nightmill.backbone.catalogue.attachments import attach, load
from nightmill.backbone.catalogue.registration import NewFile
from nightmill.backbone.database import Database
from nightmill.backbone.schema import FileRow
from nightmill.backbone.work.left_out import left_out_units
from nightmill.errors import PlanRefused
from nightmill.model.attachment import Attachment
from nightmill.model.dimensions import split
from nightmill.model.file_type import FileType, Membership, MetadataKey
from nightmill.model.origin import Origin
from tests.planning.plan_model import COLUMNS, File, Job, Wrong, expected
from tests.planning.world import NIGHT, World, make_campaign
from tests.support.backbone import create_schema

VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "night": (1, 2),
    "detector": (1, 2),
    "dit": (1.0, 2.5, 1.0, 2.5, None),
    "target": ("a", "b", "a", "b", None),
    "twin": (1.0, 2.5),
}
KEYS: Final = tuple(VALUES)
RAW: Final = ("red", "blue")
METADATA: Final = {
    "dit": MetadataKey(keywords=("DIT",), type="float"),
    "twin": MetadataKey(keywords=("TWIN",), type="float"),
    "target": MetadataKey(keywords=("OBJECT",)),
}
TABLE: Final = FileType(name="table", format="fits", metadata={}, membership=Membership(columns=COLUMNS))
_numbers = count(1)


# ------------------------------------------------------------------------------------------------- drawing

keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True)
matches = st.one_of(
    st.none(),
    keys,
    keys.map(lambda names: {"also": names}),
    st.sampled_from([{"dit": "twin"}, {"dit": ["dit", "twin"]}, {"twin": ["dit"]}, {"also": {"dit": "twin"}}]),
)


named = st.sampled_from([{"name": ["plus", "minus"]}, {"name": "plus"}, {"also": {"name": ["plus", "minus"]}}])
"""How rows name files."""


@st.composite
def tables(draw: st.DrawFn, there: Sequence[File]) -> list[File]:
    """Draw tables whose rows name files that are there, and one that is not."""
    names = st.sampled_from([*(file.name for file in there), "nowhere"])
    rows = st.fixed_dictionaries(
        {
            "pair": st.sampled_from([*(1, 2, 3) * 5, None]),
            "night": st.sampled_from([1, 2]),
            "plus": names,
            "minus": st.none() | names,
        }
    )
    drawn = draw(st.lists(st.lists(rows, max_size=5), min_size=1, max_size=2))
    return [File(f"table{number}", "table", {}, tuple(each)) for number, each in enumerate(drawn)]


@st.composite
def files(draw: st.DrawFn) -> list[File]:
    drawn = draw(
        st.lists(
            st.tuples(st.sampled_from(RAW), *(st.sampled_from(values) for values in VALUES.values())),
            min_size=2,
            max_size=10,
        )
    )
    there = [
        File(f"raw{number}", type_, {key: value for key, value in zip(KEYS, values, strict=True) if value is not None})
        for number, (type_, *values) in enumerate(drawn)
    ]
    return [*there, *draw(tables(there))]


@st.composite
def stages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw stages: the input that makes the units, one that is chosen for them, and a product."""
    drawn: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        before = [each["name"] for each in drawn]
        known: Sequence[str] = KEYS

        def source(before: list[str] = before) -> dict[str, Any]:
            stage = draw(st.sampled_from([*before, None]))
            if stage is None:
                return {"type": draw(st.sampled_from(RAW))}
            return {"type": f"made_by_{stage}", "source": {"stage": stage}}

        main = {**source(), "max": None}
        if "source" in main:  # a product has the keys of its unit alone
            known = next(each["per"] for each in drawn if each["name"] == main["source"]["stage"])
        through = draw(st.sampled_from([None, "main", "other"]))
        if through == "main":
            main |= {"through": "table", "match": draw(named)}
            known = list(dict.fromkeys(["pair", "night", *known]))
        per = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
        if through == "main" and draw(st.booleans()):
            per = ["pair"]
        inputs = {"main": main}
        if through == "other" or draw(st.booleans()):
            most = draw(st.sampled_from([None, None, 1, 2]))
            least = draw(st.sampled_from([0, 1, 1, 2])) if most != 1 else draw(st.sampled_from([0, 1]))
            missing = draw(st.sampled_from(["skip", "hold", "skip", "hold", "refuse"])) if least else "refuse"
            inputs["other"] = {**source(), "min": least, "max": most, "missing": missing, "match": draw(matches)}
            if through == "other":
                of_unit = st.sampled_from(
                    [{"name": "plus", "dit": ["dit"]}, {"name": ["minus", "plus"], "twin": "dit"}]
                )
                inputs["other"] |= {"through": "table", "match": draw(named | of_unit)}
        if through:
            inputs["table"] = {"type": "table", "max": None}
        drawn.append(
            {
                "name": f"s{number}",
                "per": per,
                "when": "any",
                "units_from": "main",
                "inputs": inputs,
                "steps": [
                    {
                        "name": "step",
                        "argv": ["step"],
                        "inputs": [role for role in inputs if role != "table" or draw(st.booleans())],
                        "outputs": {"product": {"type": f"made_by_s{number}"}},
                    }
                ],
            }
        )
    return drawn


# ------------------------------------------------------------------------------------------------- the comparison


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "nightmill.db"
    create_schema(f"sqlite:///{path}")
    return path


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(there=files(), pipeline=stages())
def test_units_inputs_and_names_are_those_of_the_model(
    empty: Path, tmp_path: Path, there: list[File], pipeline: list[dict[str, Any]]
) -> None:
    file = shutil.copy(empty, tmp_path / f"{next(_numbers)}.db")
    database = Database(f"sqlite:///{file}")
    raw = {name: FileType(name=name, metadata=METADATA) for name in RAW}
    world = World(database, tmp_path, {**raw, "table": TABLE})
    for stage in pipeline:
        name = f"made_by_{stage['name']}"
        template = "_".join([stage["name"], *(f"{{{key}}}" for key in stage["per"]), "c{campaign:04d}a{attempt:02d}"])
        world.types[name] = FileType(name=name, template=template)
    world.register([brought(file, number) for number, file in enumerate(there)])
    for table in (each for each in there if each.type == "table"):
        attach_rows(database, table)
    try:
        compare(world, list(there), pipeline)
    finally:
        database.close()
        Path(file).unlink()


def brought(file: File, number: int) -> NewFile:
    dimensions, metadata = split(file.keys)
    begins_at = NIGHT + timedelta(minutes=number)
    return NewFile(
        file.name, file.type, Origin.RAW, 1, f"{number:064d}", dimensions, begins_at, begins_at,
        metadata=metadata, store="backbone", path=file.name,
    )  # fmt: skip


def attach_rows(database: Database, table: File) -> None:
    """Put the rows of a table on record with it."""
    digest = sha256(table.name.encode()).hexdigest()
    attachment = Attachment(kind="membership", sha256=digest, size_bytes=1, rows=len(table.rows))
    rows = [[row[column] for column in COLUMNS] for row in table.rows]
    id_ = load(database, attachment, list(COLUMNS), rows, now=NIGHT)
    wanted = select(FileRow.id).where(FileRow.name == table.name)
    database.write(lambda session: attach(session, [session.scalars(wanted).one()], [[id_]]))


def compare(world: World, there: list[File], pipeline: list[dict[str, Any]]) -> None:
    campaign = make_campaign(*pipeline)
    number = world.submit(campaign)
    incomplete: set[str] = set()
    for stage in pipeline:
        try:
            jobs, left_out = expected(stage, there, number, incomplete)
        except Wrong:
            jobs, left_out = {}, {}
            refused = True
        else:
            refused = False
        name = stage["name"]
        plan = world.plan_stage(campaign, name, number)
        assert bool(plan.problems) == refused, plan.problems
        if refused:
            event("refused")
            try:
                world.seal_plan(campaign, plan)
            except PlanRefused:
                return
            raise AssertionError("a plan with problems was sealed")
        world.seal_plan(campaign, plan)
        with world.database.reading() as session:
            units = left_out_units(session, [number]).get(number, [])
        assert {unit.unit: unit.missing for unit in units if unit.stage == name} == left_out
        orders = world.issue(name) if jobs else []
        assert {order.attempt.unit: order_of(order) for order in orders} == jobs
        event(f"{len(pipeline)} stages, {'some left out' if left_out else 'none left out'}")
        for role, declared in stage["inputs"].items():
            if declared.get("through") and any(role in job.inputs for job in jobs.values()):
                event(f"{role} comes through rows")
        for order in orders:
            world.end(order)
            [step] = order.steps
            [output] = step.outputs
            there.append(File(output.names[0], output.type, dict(output.data_id)))


def order_of(order: Any) -> Job:
    """Return what an order says, as the model tells it."""
    inputs: dict[str, set[str]] = {}
    for file in order.inputs:
        for role in file.roles:
            inputs.setdefault(role, set()).add(file.name)
    [output] = order.steps[0].outputs
    return Job({role: frozenset(names) for role, names in inputs.items()}, output.names[0])
