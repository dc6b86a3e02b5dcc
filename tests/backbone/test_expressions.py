from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Text, and_, delete, literal, select, true
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.registration import NewFile
from nightmill.backbone.database import Database
from nightmill.backbone.schema import FileRow, ReplicaRow
from nightmill.backbone.sql import to_sql
from nightmill.errors import ExpressionError
from nightmill.expressions import evaluate, parse
from nightmill.expressions.parser import MAX_DEPTH
from tests.backbone.files import add_files, new_file

T0 = datetime(2026, 1, 11, 3, 12, 45, tzinfo=UTC)


def record(file: NewFile) -> dict[str, object]:
    """Give a file to Python's evaluation."""
    columns = {name: getattr(file, name) for name in ("name", "type", "origin", "size_bytes", "begins_at", "ends_at")}
    return {**file.data_id, **columns, "metadata": file.metadata}


def selected(session: Session, text: str) -> set[str]:
    return set(session.scalars(select(FileRow.name).where(to_sql(parse(text)))))


FILES = [
    new_file(
        "c4d_0001.fits",
        data_id={"night": 20260110, "exposure": 1, "detector": 1, "band": "g", "instrument": "decam"},
        begins_at=T0,
        metadata={"exposure_seconds": 30, "object": "M 67", "good": True, "mixed": "ten", "empty": None},
    ),
    new_file(
        "c4d_0002.fits",
        data_id={"night": 20260110, "exposure": 2, "detector": 2, "band": "r", "instrument": "decam"},
        begins_at=T0 + timedelta(minutes=1),
        metadata={"exposure_seconds": 30.5, "object": "m 67", "good": False, "mixed": 10},
    ),
    new_file(
        "C4D_0003.fits",
        data_id={"night": 20260111, "detector": 3},
        begins_at=T0 + timedelta(days=1),
        metadata={"exposure_seconds": -1.5, "object": "Ångström_%", "mixed": True},
    ),
    new_file("bias[1]*.fits", type="raw_bias", size_bytes=3_000_000_000, metadata={"object": "", "serial": 2**53 + 1}),
]
ONE, TWO, THREE, BIAS = (file.name for file in FILES)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("night == 20260110", {ONE, TWO}),
        ("20260110 < night", {THREE}),
        ("night != 20260110", {THREE}),
        ("not night == 20260110", {THREE}),
        ("night == 20260110 and detector in [1, 3]", {ONE}),
        ("detector not in (1, 3)", {TWO}),
        ("1 < detector <= 3", {TWO, THREE}),
        ("band is None", {THREE, BIAS}),
        ("band is not None", {ONE, TWO}),
        ('band == "g" or type == "raw_bias"', {ONE, BIAS}),
        ('band >= "h"', {TWO}),
        ("night == 99999999999", set()),
        ("size_bytes > 1e9", {BIAS}),
        ("serial == 9007199254740992.0", set()),
        ("serial in [0.5, 9007199254740993]", {BIAS}),
        ('begins_at < "2026-01-12"', {ONE, TWO}),
        ('begins_at == "2026-01-11T05:12:45+02:00"', {ONE}),
        ('begins_at in ["2026-01-11 03:12:45", "2026-01-12 03:12:45"]', {ONE, THREE}),
        ('like(name, "c4d_%")', {ONE, TWO}),
        ('like(name, "bias[1]*%")', {BIAS}),
        ('not like(name, "%.fits")', set()),
        ("exposure_seconds == 30", {ONE}),
        ("metadata.exposure_seconds >= 30", {ONE, TWO}),
        ("exposure_seconds < 30.25", {ONE, THREE}),
        ("exposure_seconds in [30, 30.5]", {ONE, TWO}),
        ("exposure_seconds == -1.5", {THREE}),
        ('object == "M 67"', {ONE}),
        ('like(object, "_ 67")', {ONE, TWO}),
        ('like(object, "%g%_%")', {THREE}),
        ('object > "a"', {TWO, THREE}),
        ('object == ""', {BIAS}),
        ("good == True", {ONE}),
        ("good != True", {TWO}),
        ("good is None", {THREE, BIAS}),
        ("mixed == 10", {TWO}),
        ("mixed == True", {THREE}),
        ('mixed != "x"', {ONE}),
        ("not mixed == 10", set()),
        ("empty is None", {ONE, TWO, THREE, BIAS}),
        ("nothing == 1 or night == 20260111", {THREE}),
        ("nothing == 1 and night == 20260111", set()),
        ('origin == "raw"', {ONE, TWO, THREE, BIAS}),
        ('  night == 20260110\n  and band == "g"  ', {ONE}),
    ],
)
def test_database_and_python_select_the_same(files: Session, text: str, names: set[str]) -> None:
    assert selected(files, text) == names
    assert {file.name for file in FILES if evaluate(parse(text), record(file))} == names


@pytest.fixture
def files(shared: Database) -> Iterator[Session]:
    with shared.reading() as session:
        yield session


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('expressions') / 'nightmill.db'}"
    else:
        server = request.getfixturevalue("postgres")
        url = server.url(server.create())
    database = Database(url)
    database.create()
    with database.writing() as session:
        add_files(session, FILES)
    yield database
    database.close()


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 0, r"the expression is empty"),
        ("night = 20260110", 6, r"cannot be read.*write == to compare"),
        ("night <> 20260110", 6, r"write != for unequal"),
        ("night == 1 AND band == 'g'", 11, r"write and, or, not, in, is None in small letters"),
        (
            'night == "20260110"',
            9,
            r'night is a whole number, and "20260110" is not.*without quotes: night == 20260110',
        ),
        ("night == 20260110.5", 9, r"night is a whole number"),
        ("night == True", 9, r"night is a whole number"),
        ("band == 1", 8, r'band is a text, and 1 is not.*in quotes: band == "1"'),
        ("begins_at > 2026", 12, r'begins_at is a time, and 2026 is not.*begins_at >= "2026-01-10T03:12:45"'),
        ('begins_at > "10/01/2026"', 12, r"begins_at is a time, and '10/01/2026' is not"),
        ("nigth == 20260110", 0, r"nothing is named 'nigth' \(did you mean 'night'\?\)"),
        ("exposure_second > 3", 0, r"nothing is named 'exposure_second' \(did you mean 'exposure_seconds'\?\)"),
        ('origin == "rwa"', 10, r"no origin is 'rwa' \(did you mean 'raw'\?\)"),
        ("band == None", 8, r"nothing equals None.*write 'is None'"),
        ("band is 1", 8, r"'is' compares with None only"),
        ("night", 0, r"night stands alone"),
        ("1 == 1", 0, r"1 is a constant on either side"),
        ("night == detector", 9, r"detector is not a constant"),
        ("night + 1 == 2", 0, r"night \+ 1 is not a name"),
        ("night in 3", 9, r"3 is not a list"),
        ("night in []", 9, r"nothing is in an empty list"),
        ('exposure_seconds in [1, "a"]', 20, r"different types"),
        ("exposure_seconds > True", 19, r"> has no meaning for True and False"),
        ('like(night, "2%")', 5, r"night is a whole number, and like compares text"),
        ("like(name)", 0, r"like takes a name and a pattern"),
        ("like(name, 3)", 11, r"a pattern is text"),
        ('__import__("os").system("true")', 0, r"is not a comparison"),
        ("(lambda: 1)() == 1", 0, r"is not a name"),
        ("night == 10 ** 9", 9, r"10 \*\* 9 is not a constant"),
        ("night == 99999999999999999999", 9, r"is not a value that a file can have"),
        ("exposure_seconds < 1e999", 19, r"is not a value that a file can have"),
        ('object == "a\\0b"', 10, r"characters that no value can have"),
        ('object == "Ångström" and band == 1', 33, r"band is a text"),
        (" or ".join(["night == 1"] * 501), 7000, r"more than 500 comparisons"),
        ("not " * 30 + "night == 1", 84, r"nested deeper than 20 levels"),
        ("(" * 5000 + "night == 1" + ")" * 5000, 200, r"cannot be read"),
        ("night in [" + "1, " * 10_000 + "]", 0, r"has 30011 characters, more than 20000"),
        ("not " * 900 + "night == 1", 84, r"nested deeper than 20 levels"),
        ("not " * 4900 + "night == 1", 84, r"nested deeper than 20 levels"),
        ("night == " + "-" * 900 + "1", 29, r"nested deeper than 20 levels"),
        ("night == " + "-" * 9000 + "1", 30, r"nested deeper than 20 levels"),
        ("night" + ".a" * 2000 + " == 1", 0, r"nested deeper than 20 levels"),
        ("night" + "()" * 2000 + " == 1", 0, r"nested deeper than 20 levels"),
        ("lambda: " * 2000 + "1", 168, r"nested deeper than 20 levels"),
        ("night == " + "2 ** " * 3000 + "1", 0, r"nested deeper than 20 levels"),
        ("night == 0x" + "9" * 19_000, 9, r"0x9+\.\.\. is not a value that a file can have"),
        (f'like(name, "{"%" * 1001}")', 11, r"the pattern has 1001 characters, more than 1000"),
    ],
)
def test_a_mistake_is_shown_where_it_stands(text: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionError, match=f"(?s){message}") as caught:
        parse(text, metadata_keys={"exposure_seconds", "object"})
    assert caught.value.column == column


@pytest.mark.parametrize("words", [("and", "or"), ("and not", "or not"), ("and not", "and not"), ("or", "and not")])
def test_as_deep_as_it_may_be_an_expression_is_carried_out(files: Session, words: tuple[str, str]) -> None:
    text, depth = "night == 20260110", 0
    for word in words * 10:
        deeper = f'like(object, "M%") {word} ({text})'
        depth += 1 + word.endswith("not")
        if depth < MAX_DEPTH:
            text = deeper
    everyone = select(FileRow.name).where(FileRow.id.in_(select(FileRow.id).where(and_(to_sql(parse(text)), true()))))
    found = set(files.scalars(everyone))
    assert found == {file.name for file in FILES if evaluate(parse(text), record(file))}


def test_a_long_expression_is_shown_around_its_mistake() -> None:
    text = "night in [" + "1, " * 2000 + "'a']"
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    _message, shown, mark = str(caught.value).splitlines()[:3]
    assert len(shown) < 200
    assert shown[mark.index("^") :].startswith("'a']")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "pattern", ["%a" * 300 + "%b", "a%" * 300 + "b", "%_a" * 200 + "%b%", "%" * 999 + "b", "%a_" * 200 + "b"]
)
def test_a_pattern_that_backtracks_ends_soon_everywhere(files: Session, pattern: str) -> None:
    """Tried one choice of places after another, these would take longer than the sun burns."""
    expression = parse(f'like(name, "{pattern}")')
    assert not evaluate(expression, {"name": "a" * 20_000})
    value = literal("a" * 2000, Text)
    assert not files.scalar(select(to_sql(expression, cast(type[FileRow], SimpleNamespace(name=value)))))


def test_a_key_that_no_file_type_names_can_be_asked_for() -> None:
    assert parse("metadata.oddity == 1", metadata_keys=set()).names == {"metadata.oddity"}


# ------------------------------------------------------------------------- SQLite and Python agree

FIELDS = {
    "night": st.integers(0, 3),
    "detector": st.integers(-2, 2),
    "band": st.text("gr%_Å", max_size=2),
    "begins_at": st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 3)).map(lambda time: time.replace(tzinfo=UTC)),
}
TEXTS = st.text("aA%_[*é\n", max_size=6)
LONG_NUMBERS = st.sampled_from([2**53, 2**53 + 1, 2.0**53, -(2**63), 2**63 - 1, 0.3, 0.1 + 0.2, 1e300, -1e-300])
NUMBERS = st.one_of(st.integers(-2, 2), st.floats(-2, 2), st.sampled_from([0.5, 1.0]), LONG_NUMBERS)
METADATA = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from([*FIELDS, "x", "y"]))
    if draw(st.integers(0, 9)) == 0:
        return f"{name} is {draw(st.sampled_from(['None', 'not None']))}"
    if name in FIELDS:
        values: st.SearchStrategy[Any] = FIELDS[name]
    else:
        values = draw(st.sampled_from([st.booleans(), NUMBERS, TEXTS]))
    shape = draw(st.integers(0, 3))
    literals = draw(st.lists(values.map(_literal), min_size=1, max_size=3))
    if shape == 0:
        return f"{name} {draw(st.sampled_from(['in', 'not in']))} [{', '.join(literals)}]"
    if shape == 1 and name in ("band", "x", "y"):
        return f"like({name}, {draw(TEXTS)!r})"
    sign = draw(SIGNS)
    if literals[0] in ("True", "False"):
        sign = "!=" if sign.startswith("!") else "=="
    return f"{name} {sign} {literals[0]}"


def _literal(value: object) -> str:
    return repr(value.isoformat()) if isinstance(value, datetime) else repr(value)


EXPRESSIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda term: f"not ({term})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: "({} {} {})".format(*parts)),
    ),
    max_leaves=5,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={**FIELDS, "x": METADATA, "y": METADATA},
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(EXPRESSIONS, min_size=1, max_size=8), records=st.lists(RECORDS, min_size=1, max_size=8))
def test_database_and_python_agree_on_anything(
    empty: Database, texts: list[str], records: list[Mapping[str, Any]]
) -> None:
    files = [_file(number, values) for number, values in enumerate(records)]
    with empty.writing() as session:
        session.execute(delete(ReplicaRow))
        session.execute(delete(FileRow))
        add_files(session, files)
        for text in texts:
            expected = {file.name for file in files if evaluate(parse(text), record(file))}
            assert selected(session, text) == expected, text


def _file(number: int, values: Mapping[str, Any]) -> NewFile:
    data_id = {name: values[name] for name in ("night", "detector", "band") if name in values}
    metadata = {name: values[name] for name in ("x", "y") if name in values}
    return new_file(f"{number}.fits", data_id=data_id, metadata=metadata, begins_at=values.get("begins_at"))


@pytest.fixture
def empty(database: Database) -> Database:
    return database
