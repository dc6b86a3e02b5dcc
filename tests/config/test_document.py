from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.config.document import dotted, load_document, parse_document, parse_value
from nightmill.errors import ConfigError
from tests.config.documents import refusals, write


def problems(tmp_path: Path, content: str | bytes) -> list[str]:
    path = tmp_path / "doc.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return refusals(load_document, path)


def test_every_key_has_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "doc.yaml", "a: 1\nb:\n  c: [x,\n    y]\n\n  d: {e: 2}\n")
    document = load_document(path)
    assert document.data == {"a": 1, "b": {"c": ["x", "y"], "d": {"e": 2}}}
    assert document.where(("a",)) == f"{path}:1"
    assert [document.line(key) for key in (("b",), ("b", "c"), ("b", "c", 1), ("b", "d", "e"))] == [2, 3, 4, 6]
    assert document.line(("b", "d", "none", "deeper")) == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("12:30:00", "12:30:00"),
        ("2026-01-10", "2026-01-10"),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ('"7"', "7"),
        ("night == 20260110", "night == 20260110"),
        ("[1, a, {b: c}]", [1, "a", {"b": "c"}]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_value(text, "--set x")
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merges(tmp_path: Path) -> None:
    path = write(tmp_path, "doc.yaml", "base: &base {a: 1, b: 2}\nuse:\n  b: 3\n  <<: *base\nlist: [*base]\n")
    document = load_document(path)
    assert document.data["use"] == {"a": 1, "b": 3}
    assert document.data["list"] == [{"a": 1, "b": 2}]
    assert document.line(("use", "b")) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "doc.yaml:3: a is given twice (first on line 1); keep one of them"),
        ("x:\n  a: 1\n  a: 3\n", "doc.yaml:3: x.a is given twice (first on line 2); keep one of them"),
        ("a: .nan\n", "doc.yaml:1: a is .nan, not a finite number"),
        ("a:\n  - 1\n  - -.inf\n", "doc.yaml:3: a[1] is -.inf, not a finite number"),
        ("a: 1e999\n", "doc.yaml:1: a is 1e999, not a finite number"),
        ("1: x\n", "doc.yaml:1: the key '1' is not text; put it in quotes"),
        ("[a]: x\n", "doc.yaml:1: the key is not text; put it in quotes"),
        ("a: !!python/object:os.system x\n", "'!!python/object:os.system' is not known; leave it out"),
        ("a: !mine {b: c}\n", "doc.yaml:1: the tag '!mine' is not known; leave it out"),
        ("a:\n\tb: 1\n", "doc.yaml:2: it is not YAML: while scanning for the next token, found character"),
        ("a: [1, 2\nb: 3\n", "doc.yaml:2: it is not YAML: while parsing a flow sequence"),
        ("a: 1\n---\nb: 2\n", "it is not YAML: expected a single document in the stream"),
        ("a: *none\n", "doc.yaml:1: it is not YAML: found undefined alias"),
        ("a: &a [*a]\n", "doc.yaml:1: a[0] contains itself"),
        ("é: 1\na: \0\n", "doc.yaml:2: it holds the character U+0000; leave it out"),
        ('b: 1\na: "x\\0"\n', "doc.yaml:2: a holds the character U+0000; leave it out"),
        ("a: !!int five\n", "doc.yaml:1: the tag '!!int' is not known; leave it out"),
        ("a: !!bool maybe\n", "doc.yaml:1: the tag '!!bool' is not known; leave it out"),
        ("a: 9223372036854775808\n", "a is 9223372036854775808, not a whole number of at most 64 bits"),
        (f"a: {'9' * 5000}\n", f"a is {'9' * 60}..., not a whole number of at most 64 bits"),
        (f"a: 0x{'F' * 5000}\n", "F..., not a whole number of at most 64 bits"),
        (b"a: caf\xe9\n", "doc.yaml:1: it is not UTF-8 (byte 0xe9); save it as UTF-8"),
        ("", "doc.yaml:1: the document is empty and should be a mapping of keys to values"),
        ("- a\n", "doc.yaml:1: the document is a list and should be a mapping"),
        ("just text\n", "doc.yaml:1: the document is a text and should be a mapping"),
        ("<<: 3\na: 1\n", "doc.yaml:1: '<<' takes a mapping, or a list of them"),
    ],
)
def test_refusal(tmp_path: Path, content: str | bytes, expected: str) -> None:
    [problem] = problems(tmp_path, content)
    assert expected in problem


def test_the_first_of_merged_mappings_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "doc.yaml", "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nuse: {<<: [*x, *y], d: 5}\n")
    assert load_document(path).data["use"] == {"a": 1, "b": 2, "c": 4, "d": 5}


def test_tabs_are_named(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "a:\n\tb: 1\n")
    assert problem.endswith("indent with blanks; YAML takes no tabs")


def test_all_duplicate_keys_and_unfit_numbers_are_told_at_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "a: 1\na: 2\nb: .inf\nc: {d: 1, d: 2}\n")) == 3


@pytest.mark.timeout(60)
def test_larger_than_a_mebibyte_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "doc.yaml"
    with path.open("wb") as file:
        file.write(b"a: [")
        file.truncate(1 << 33)
    [problem] = refusals(load_document, path)
    assert "doc.yaml is larger than 1,048,576 bytes; no configuration is" in problem


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bomb", ["[" * 1_000_000, "- " * 300_000, "{a: " * 200_000])
def test_deep_nesting_is_refused(tmp_path: Path, bomb: str) -> None:
    assert problems(tmp_path, bomb) == ["doc.yaml:1: it is nested more than 50 levels deep"]


def test_aliases_that_blow_up_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    [problem] = problems(tmp_path, "\n".join(lines))
    assert "more than 200,000 values once its aliases are written out" in problem


def test_missing_document_says_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "pipeline.yaml", "a: 1")
    with pytest.raises(ConfigError, match=r"pipelin\.yaml is not there; the folder has: pipeline\.yaml"):
        load_document(tmp_path / "pipelin.yaml")
    with pytest.raises(ConfigError, match="there is no folder"):
        load_document(tmp_path / "none" / "pipeline.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_document(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        document = parse_document(raw, "doc")
    except ConfigError:
        return
    assert isinstance(document.data, dict)


text = st.text(st.characters(exclude_categories=["Cc", "Cs"], max_codepoint=0xFFFF), max_size=50)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(text, plain))
def test_data_comes_back_as_it_was_written(data: dict[str, object]) -> None:
    written = json.dumps(data, indent=1)
    document = parse_document(written.encode(), "doc")
    assert document.data == data
    lines = written.splitlines()
    for key in document.lines:
        if key and isinstance(key[-1], str):
            assert json.dumps(key[-1]) in lines[document.line(key) - 1]


def test_dotted_key() -> None:
    assert dotted(("stages", "bias", "steps", 0, "argv")) == "stages.bias.steps[0].argv"
