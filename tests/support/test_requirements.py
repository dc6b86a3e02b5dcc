from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.requirements import (
    EVIDENCE,
    REFERENCE,
    Evidence,
    parse_requirements,
    read_evidence,
    report,
    write_evidence,
)

TABLE = """\
| ID | Meaning | Mark |
| --- | --- | --- |
| B01 | One thing | CORE |
| B02 | Another thing | CORE/BB |
"""
pytest_plugins = ["pytester"]


def test_reference_has_every_row() -> None:
    rows = parse_requirements(REFERENCE.read_text())
    groups = Counter(identifier.rstrip("0123456789") for identifier in rows)
    assert groups["B"] == 60
    assert groups["L"] + groups["D"] + groups["A"] == 38
    assert groups["T"] == 31
    assert groups["F"] == 55
    assert groups["P"] == 35
    assert groups["REQ-"] == 32
    assert groups["DBB-"] == 5
    assert {part for row in rows.values() for part in row.mark.split("/")} == {"CORE", "BB", "ADJ", "POL"}


def test_rows_of_a_group_are_numbered_without_gaps() -> None:
    rows = parse_requirements(REFERENCE.read_text())
    for group, last in {"B": 60, "L": 7, "D": 18, "A": 13, "T": 31, "F": 55, "P": 35}.items():
        assert [f"{group}{number:02d}" for number in range(1, last + 1)] == [
            identifier for identifier in rows if identifier.rstrip("0123456789") == group
        ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("| B03 | No mark |", r"line 5 is not '\| ID \| meaning \| MARK \|': \| B03"),
        ("| B01 | Again | CORE |", "line 5: B01 stands twice"),
    ],
)
def test_malformed_table_is_refused(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_requirements(TABLE + line + "\n")


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ({}, "B01 open"),
        ({"tests/a.py::test_x": "passed"}, "B01 proven tests/a.py::test_x"),
        ({"tests/a.py::test_x": "failed"}, "B01 open"),
        ({"tests/a.py::test_x": "skipped"}, "B01 open"),
        ({"tests/a.py::test_x[1]": "passed", "tests/a.py::test_x[2]": "failed"}, "B01 open"),
        (
            {"tests/a.py::test_x[1]": "passed", "tests/a.py::test_x[2]": "skipped"},
            "B01 proven tests/a.py::test_x",
        ),
        (
            {"tests/a.py::test_x": "passed", "tests/b.py::test_y": "passed"},
            "B01 proven tests/a.py::test_x tests/b.py::test_y",
        ),
    ],
)
def test_report_counts_only_what_passed(outcomes: dict[str, str], line: str, tmp_path: Path) -> None:
    kept = tmp_path / "evidence.json"
    write_evidence((Evidence(node, ("B01",), outcome) for node, outcome in outcomes.items()), kept)  # type: ignore[arg-type]
    assert list(report(parse_requirements(TABLE), read_evidence(kept))) == [line, "B02 open"]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Give an empty project that uses the plugin."""
    pytester.makeini("[pytest]\ntestpaths = .\naddopts = -p tests.support.requirements_plugin\n")
    return pytester


def test_complete_run_leaves_evidence(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def fails_late():
            yield
            raise RuntimeError

        @pytest.mark.req("B01", "B02")
        def test_passes(): pass

        @pytest.mark.req("B03")
        def test_fails(): assert False

        @pytest.mark.req("B04")
        def test_skips(): pytest.skip("no reason")

        @pytest.mark.req("B05")
        def test_fails_after(fails_late): pass

        @pytest.mark.req("B06")
        @pytest.mark.xfail
        def test_known_to_fail(): assert False

        def test_cites_nothing(): pass
        """
    )
    project.runpytest_inprocess("-p", "no:cacheprovider")
    evidence = read_evidence(project.path / EVIDENCE.name)
    assert {item.requirements: item.outcome for item in evidence} == {
        ("B01", "B02"): "passed",
        ("B03",): "failed",
        ("B04",): "skipped",
        ("B05",): "failed",
        ("B06",): "skipped",
    }


def test_narrowed_run_leaves_evidence_alone(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.req("B01")
        def test_passes(): pass
        """
    )
    project.runpytest_inprocess("-k", "passes").assert_outcomes(passed=1)
    assert not (project.path / EVIDENCE.name).exists()


@pytest.mark.parametrize(
    ("cited", "complaint"),
    [
        ('"B01", "B999"', "*test_x cites *B999*, which requirements.md does not have"),
        ('"B01", "B02", "B03", "B04"', "*test_x cites 4 requirements; a test may prove 3 at most"),
    ],
)
def test_marks_are_checked(project: pytest.Pytester, cited: str, complaint: str) -> None:
    project.makepyfile(
        f"""
        import pytest

        @pytest.mark.req({cited})
        def test_x(): pass
        """
    )
    result = project.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])
