"""``nightmill rerun --dry-run``: what people and programs are shown, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill
from tests.operations.nights import count, opened
from tests.operations.test_bundles import carry_out


@pytest.fixture
def night(folder: Path, tmp_path: Path) -> Path:
    """Give a site whose campaign has three jobs, of which one failed, and a stage that took from the others."""
    broken = tmp_path / "broken"
    broken.write_text("2\n")
    with opened(open_site(folder), tmp_path, broken, keep=True) as site:
        carry_out(site, "sum")
    return folder


def test_people_are_shown_what_would_run_again_and_what_follows(night: Path, nightmill: Nightmill) -> None:
    asked = nightmill(
        "rerun", "night1", "--as-submitted", "--where", "exposure < 3", "--stage", "measure", "--dry-run",
        "--from-step", "end", "--set", "parameters.sigma=4",
    )  # fmt: skip
    assert (asked.code, asked.out.splitlines()) == (
        0,
        [
            "runs again: stage measure: 1 job now done",
            "runs again: stage measure: 1 job now failed",
            "  measure/exposure=1",
            "    begins with step 'end'; takes from attempt a01: first_0001_c0001a01.txt",
            "  measure/exposure=2",
            "    begins with step 'end'; takes from attempt a01: first_0002_c0001a01.txt",
            "changes parameters.sigma: 3.0 -> 4.0 (command line), 2 jobs",
            "become stale then: 1 job: night1/sum/exposure=1",
            "nothing was done",
        ],
    )
    with open_site(night) as site:
        assert count(site) == 5


@pytest.mark.req("X24")
def test_programs_are_shown_the_same(night: Path, nightmill: Nightmill) -> None:
    told = nightmill("rerun", "night1", "--as-submitted", "--whole", "--downstream", "--dry-run", "--json").json
    assert [(job["stage"], job["unit"], job["state"]) for job in told["jobs"]] == [
        ("measure", "exposure=1", "done"),
        ("measure", "exposure=2", "failed"),
        ("measure", "exposure=3", "done"),
        ("sum", "exposure=1", "done"),
        ("sum", "exposure=3", "done"),
    ]
    assert told["counts"] == {"measure": {"done": 2, "failed": 1}, "sum": {"done": 2}}
    assert told["waits"] == ["stage 'sum' waits for the jobs of stage 'measure'"]
    assert (told["downstream"], told["stale"], told["passed_over"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--failed", "--whole"), "--failed, --stale and --whole exclude each other; say one of them"),
        (("--from-step", "end", "--from-failure"), "--from-step and --from-failure exclude each other"),
        (("--where", "exposre == 1"), "did you mean 'exposure'?"),
        (("--stage", "mesure"), "did you mean 'measure'?"),
        (("--set", "parameters.sigma"), "'parameters.sigma' is not KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_refused(night: Path, nightmill: Nightmill, arguments: tuple[str, ...], message: str) -> None:
    asked = nightmill("rerun", "night1", "--as-submitted", "--dry-run", *arguments)
    assert asked.code == 2
    assert message in asked.err
