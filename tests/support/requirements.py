"""Which requirements the last complete test run proved: ``python -m tests.support.requirements``.

The requirements stand in docs/reference/requirements.md. A test cites what it proves by
``@pytest.mark.req("B42")``; the plugin beside this module keeps the evidence of a run in a file that this one reads.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parents[2]
REFERENCE: Final = ROOT / "docs" / "reference" / "requirements.md"
EVIDENCE: Final = ROOT / ".requirements.json"

Outcome = Literal["passed", "failed", "skipped"]
_ROW = re.compile(r"\| (?P<id>[A-Z]+-?\d+) \| (?P<meaning>[^|]+) \| (?P<mark>[A-Z/]+) \|")
_NOT_A_ROW = re.compile(r"\| ID \| Meaning \| Mark \||\| --- \| --- \| --- \|")


@dataclass(frozen=True)
class Requirement:
    """One row of the reference."""

    id: str
    meaning: str
    mark: str


@dataclass(frozen=True)
class Evidence:
    """What one test, or one parametrised variant of it, said of the requirements that it cites."""

    node: str
    requirements: tuple[str, ...]
    outcome: Outcome


def parse_requirements(text: str) -> dict[str, Requirement]:
    """Return the requirements of the reference's tables by ID, in their order.

    Raises
    ------
    ValueError
        A table row is not one requirement, or an ID stands twice; the message names the line.
    """
    rows: dict[str, Requirement] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|") or _NOT_A_ROW.fullmatch(line):
            continue
        match = _ROW.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is not '| ID | meaning | MARK |': {line}")
        row = Requirement(match["id"], match["meaning"], match["mark"])
        if row.id in rows:
            raise ValueError(f"line {number}: {row.id} stands twice")
        rows[row.id] = row
    return rows


def write_evidence(evidence: Iterable[Evidence], path: Path) -> None:
    """Keep the evidence of a complete run, in place of what was kept before."""
    document = [
        {"node": item.node, "requirements": list(item.requirements), "outcome": item.outcome}
        for item in sorted(evidence, key=lambda item: item.node)
    ]
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_evidence(path: Path) -> list[Evidence]:
    """Return the evidence that the last complete run left."""
    return [
        Evidence(item["node"], tuple(item["requirements"]), item["outcome"]) for item in json.loads(path.read_text())
    ]


def report(requirements: Mapping[str, Requirement], evidence: Iterable[Evidence]) -> Iterator[str]:
    """Yield one line a requirement: ``B42 proven tests/...::test_name`` with each test that proves it, or ``B42 open``.

    A test proves its rows when at least one of its variants passed and none failed; a skipped variant says nothing.
    """
    outcomes: dict[tuple[str, str], set[Outcome]] = {}
    for item in evidence:
        test = item.node.partition("[")[0]
        for identifier in item.requirements:
            outcomes.setdefault((identifier, test), set()).add(item.outcome)
    for identifier in requirements:
        tests = [
            test
            for (cited, test), seen in outcomes.items()
            if cited == identifier and "passed" in seen and "failed" not in seen
        ]
        yield f"{identifier} proven {' '.join(tests)}" if tests else f"{identifier} open"


def main() -> int:
    """Print the report on standard output, and how many rows are proven on standard error."""
    if not EVIDENCE.exists():
        print("no complete test run has left its results: run make test", file=sys.stderr)
        return 1
    lines = list(report(parse_requirements(REFERENCE.read_text()), read_evidence(EVIDENCE)))
    print("\n".join(lines))
    proven = sum(" proven " in line for line in lines)
    print(f"{proven} of {len(lines)} requirements proven", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
