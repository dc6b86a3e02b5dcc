"""Random pipelines: units, inputs and names are those that a small model works out, file by file.

The model knows nothing of indexes, blocks or plans: it looks at every file for every unit. A stand-in carries the jobs
out, so that later stages take what earlier ones made.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from nightmill.model.dimensions import KeyType, split, unit_name
from nightmill.model.file_type import FileType, Membership, MetadataKey
from nightmill.model.origin import Origin
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
COLUMNS: Final[Mapping[str, KeyType]] = {"pair": "int", "night": "int", "plus": "str", "minus": "str"}
"""Of the rows of tables."""
TABLE: Final = FileType(name="table", format="fits", metadata={}, membership=Membership(columns=COLUMNS))
_numbers = count(1)


@dataclass(frozen=True)
class File:
    """A file as the model knows it."""

    name: str
    type: str
    keys: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Job:
    """A job as the model wants it."""

    inputs: Mapping[str, frozenset[str]]
    product: str


class Wrong(Exception):
    """The plan of a stage ought to be refused."""


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


# ------------------------------------------------------------------------------------------------- the model


def expected(
    stage: Mapping[str, Any], there: Iterable[File], campaign: int, incomplete: set[str]
) -> tuple[dict[str, Job], dict[str, str]]:
    """Work out the jobs of a stage, and the units that are left out, by name; note whether it leaves some out."""
    per, inputs = stage["per"], stage["inputs"]
    by_type: dict[str, list[File]] = {}
    for file in there:
        by_type.setdefault(file.type, []).append(file)
    main = by_type.get(inputs["main"]["type"], [])
    if incomplete & {each.get("source", {}).get("stage") for each in inputs.values()}:
        incomplete.add(stage["name"])
    tables = by_type.get("table", [])
    jobs, left_out = {}, {}
    pairs = paired(inputs["main"], main, tables, per)
    if not pairs and inputs["main"].get("source", {}).get("stage") in incomplete:
        return {}, {}
    for values, own in units_of(pairs, per).items():
        unit = dict(zip(per, values, strict=True))
        name = unit_name(unit, per)
        found = {"main": frozenset(file.name for file in own)}
        if "other" in inputs:
            other = inputs["other"]
            fitting = fitting_files(other, by_type.get(other["type"], []), tables, unit, own, per)
            if not is_enough(other, len(fitting)):
                if other["missing"] != "refuse":
                    left_out[name] = other["missing"]
                    incomplete.add(stage["name"])
                continue
            if fitting:
                found["other"] = frozenset(file.name for file in fitting)
        if "table" in stage["steps"][0]["inputs"]:
            found["table"] = frozenset(table.name for table in tables)
        product = "_".join([stage["name"], *(str(unit[key]) for key in per)])
        jobs[name] = Job(found, f"{product}_c{campaign:04d}a01")
    return jobs, left_out


def paired(
    declared: Mapping[str, Any], main: Sequence[File], tables: Sequence[File], per: Sequence[str]
) -> list[tuple[File, Mapping[str, Any]]]:
    """Return the files that make units, each with what a row that names it says of the unit."""
    if not declared.get("through"):
        return [(file, {}) for file in main]
    naming = naming_columns(declared, main, per)
    return [(file, row) for table in tables for row in table.rows for file in main if names(row, file, naming)]


def units_of(pairs: Sequence[tuple[File, Mapping[str, Any]]], per: Sequence[str]) -> dict[tuple[Any, ...], list[File]]:
    """Group files by the values of keys, which a row that names the file or the file itself must have."""
    units: dict[tuple[Any, ...], list[File]] = {}
    for file, row in pairs:
        values = tuple(row[key] if key in row else file.keys.get(key) for key in per)
        if None in values:
            raise Wrong
        units.setdefault(values, []).append(file)
    if not units:
        raise Wrong
    return units


def naming_columns(declared: Mapping[str, Any], candidates: Sequence[File], per: Sequence[str]) -> dict[str, list[str]]:
    """Return the keys by which rows name the files of an input, each with the columns that have its value."""
    asked, adds = asked_of(declared["match"])
    naming = {key: columns for key, columns in asked.items() if set(columns) <= set(COLUMNS)}
    if adds:
        known = {key for file in candidates for key in file.keys}
        naming |= {key: [key] for key in COLUMNS if key in known and key not in per and key not in naming}
    return naming


def names(row: Mapping[str, Any], file: File, naming: Mapping[str, Sequence[str]]) -> bool:
    """Say whether a row names a file."""
    own = {**file.keys, "name": file.name}
    return all(
        own.get(key) is not None and own[key] in [row[column] for column in columns] for key, columns in naming.items()
    )


def fitting_files(
    declared: Mapping[str, Any],
    candidates: Sequence[File],
    tables: Sequence[File],
    unit: Mapping[str, Any],
    own: Sequence[File],
    per: Sequence[str],
) -> list[File]:
    """Return the files of an input that fit a unit: as rows about the unit name them, where it comes through some."""
    if not declared.get("through"):
        asked, adds = asked_of(declared["match"])
        return [file for file in candidates if fits(file, unit, own, asked, per if adds else ())]
    naming = naming_columns(declared, candidates, per)
    about = [row for table in tables for row in table.rows if all(row[key] == unit[key] for key in per if key in row)]
    asked, adds = asked_of(declared["match"])
    rest = {key: each for key, each in asked.items() if key not in naming}
    default = [key for key in per if key not in COLUMNS] if adds else []
    named_files = [file for file in candidates if any(names(row, file, naming) for row in about)]
    return [file for file in named_files if fits(file, unit, own, rest, default)]


def asked_of(match: Any) -> tuple[dict[str, list[str]], bool]:
    """Return the keys that a match names, each with those it is compared with, and whether it adds to the default."""
    adds = match is None or (isinstance(match, dict) and "also" in match)
    asked: Any = match["also"] if isinstance(match, dict) and "also" in match else match or []
    if not isinstance(asked, dict):
        asked = {key: [key] for key in asked}
    return {key: [each] if isinstance(each, str) else list(each) for key, each in asked.items()}, adds


def is_enough(declared: Mapping[str, Any], found: int) -> bool:
    """Say whether an input is filled by so many files; a unit that it is not filled for waits, or is left out."""
    if declared["max"] is not None and found > declared["max"]:
        raise Wrong
    if found < declared["min"] and declared["missing"] == "refuse" and "source" not in declared:
        raise Wrong
    return found >= int(declared["min"])


def fits(
    file: File,
    unit: Mapping[str, Any],
    own: Sequence[File],
    asked: Mapping[str, Sequence[str]],
    default: Sequence[str],
) -> bool:
    """Say whether a file agrees with a unit on all that is asked, and on what it has of the default."""
    if not file.keys.keys() >= set(asked):
        return False
    for key, of_unit in asked.items():
        values = [value for each in of_unit for value in known(each, unit, own)]
        if file.keys[key] not in values:
            return False
    return all(file.keys[key] == unit[key] for key in default if key in file.keys and key not in asked)


def known(key: str, unit: Mapping[str, Any], own: Sequence[File]) -> list[Any]:
    """Return the unit's value of a key, if it has one."""
    if key in unit:
        return [unit[key]]
    values = {file.keys.get(key) for file in own}
    if len(values) > 1:
        raise Wrong
    return [value for value in values if value is not None]


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
