"""The software that steps run with: compared, tried on what ran before, and kept out where it is new."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.catalogue.software import KnownStack
from nightmill.backbone.schema import RegressionRow
from nightmill.cli.render.software import show_comparison
from nightmill.model.software import Stack
from nightmill.operations.site import open_site
from nightmill.operations.software import Side, compare_software
from tests.cli.conftest import Nightmill, take_in
from tests.examples.campaigns import conduct, job_lines, run_again, run_campaign
from tests.support.observatory import deliver

TYPES = '  photons: {template: "cam_{exposure:04d}_photons_c{campaign:04d}a{attempt:02d}.txt"}\n'
PIPELINE = """\
pipeline: counting
version: "1.0"
stages:
  count:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
    steps:
      - name: count
        argv: ["photons", "{inputs.frame}", "{outputs.photons}"]
        inputs: [frame]
        software: {photons: [photons]}
        files: {count.conf: {lines: ["threshold 3"]}}
        environment: {FLAVOUR: vanilla}
        outputs:
          photons: {type: photons}
"""
JOB = "first/count/exposure=1"


def program(folder: Path, *, more: int = 0, version: str = "1.0", note: str = "") -> None:
    """Write the program that steps count with, as an installer does: a new file takes the place of the old one."""
    folder.mkdir(exist_ok=True)
    new = folder / ".photons.new"
    new.write_text(
        f"#!/bin/sh\n# {note}\ntest $# = 0 && echo photons {version} && exit\nsleep 0.1\n"
        f"echo $(($(wc -c < $1) + {more})) > $2\n"
    )
    new.chmod(0o755)
    new.rename(folder / "photons")


@pytest.fixture
def counting(each_folder: Path, tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a site on which a campaign ran with a program on PATH, which stands in ``bin`` beside it."""
    program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with (each_folder / "file_types.yaml").open("a") as file:
        file.write(TYPES)
    config = each_folder / "nightmill.yaml"
    config.write_text(config.read_text().replace("confinement: {use: off}", "confinement: {reads: [../bin]}"))
    (each_folder / "pipeline.yaml").write_text(PIPELINE)
    take_in(nightmill, tmp_path / "night", 3)
    assert ran(each_folder, "first") == ["done", "done", "done"]
    return each_folder


def ran(folder: Path, name: str) -> list[str]:
    """Run a campaign over all frames, or go on with one; return how its jobs stand."""
    document = folder / f"{name}.yaml"
    with open_site(folder) as site:
        if document.exists():
            run_again(site, name)
        else:
            document.write_text(f"campaign: {name}\npipeline: pipeline.yaml\n")
            run_campaign(site, document)
        return [str(line.state) for line in job_lines(site, name)]


def kept(folder: Path) -> list[str]:
    """Return what the stores have, but for the logs of the fourth campaign."""
    return sorted(path.name for path in (folder / "stores").rglob("*") if "c0004" not in path.name)


def gated(folder: Path, new: str = "gate") -> None:
    text = (folder / "nightmill.yaml").read_text()
    (folder / "nightmill.yaml").write_text(f"{text}\nsoftware: {{new: {new}}}\n")


@pytest.mark.req("F41")
def test_an_update_passes_a_regression_before_campaigns_run_with_it(
    counting: Path, tmp_path: Path, nightmill: Nightmill
) -> None:
    gated(counting)
    assert ran(counting, "second") == ["done", "done", "done"], "what ran before is known"
    (counting / "pipeline.yaml").write_text(PIPELINE + "# an edit is not an update\n")
    assert ran(counting, "third") == ["done", "done", "done"]

    program(tmp_path / "bin", more=1, version="1.1")
    assert ran(counting, "fourth") == ["ready", "ready", "ready"], "none failed"
    attempts = nightmill("sql", "SELECT fate, evidence FROM attempt WHERE fate <> 'published'", "--json").json
    [stopped, *_] = [each["evidence"] for each in attempts if " is not started: its" in each["evidence"][:40]]
    assert {each["fate"] for each in attempts} == {"cancelled"}
    found = re.fullmatch(
        r"step 'count' is not started: its software ([0-9a-f]{12}) is new to the site on host \S+, which gates that;"
        r" try it on a job that ran before: 'nightmill regress JOB'; or let it in: 'nightmill regress --accept"
        r" \1 --why ...'; then rerun",
        stopped,
    )
    assert found, stopped

    stored = kept(counting)
    called = nightmill("regress", JOB)
    assert called.code == 1
    assert f"{JOB}/a01: FAILED with software {found[1]} on host " in called.out
    assert "photons cam_0001_photons_c0001a01.txt: 5 bytes, now 5, with another checksum" in called.out
    assert ran(counting, "fourth") == ["ready", "ready", "ready"]
    assert stored == kept(counting)
    assert [path.name for path in (counting / "scratch").iterdir() if path.name.startswith("regress")] == []
    told = nightmill("compare", JOB, found[1]).out.splitlines()
    assert told[:2] == [f"before: {JOB}/a01", f"after:  software {told[1].split()[-1]}"]
    assert [line.partition(": ")[::2] for line in told[2:] if "programs" in line] == [
        (f"  programs {tmp_path / 'bin/photons'}", told[-2].partition(": ")[2]),
        ("  programs photons", "photons 1.0 → photons 1.1"),
    ]

    program(tmp_path / "bin", version="1.2", note="faster")
    [passed] = nightmill("regress", "cam_0002_photons_c0001a01.txt", "--json").json
    assert (passed["passed"], passed["reference"]) == (True, "first/count/exposure=2/a01")
    assert [output["verdict"] for output in passed["outputs"]] == ["same bytes"]
    assert ran(counting, "fourth") == ["done", "done", "done"]

    acts = nightmill("acts", "--verb", "regress", "--json").json
    assert [(act["subject"], act["detail"]["passed"]) for act in acts] == [
        (f"{JOB}/a01", False),
        ("first/count/exposure=2/a01", True),
    ]
    with open_site(counting) as site, site.database.reading() as session:
        verdicts = session.scalars(select(RegressionRow).order_by(RegressionRow.id)).all()
        assert [(row.how, row.passed, len(row.differences)) for row in verdicts] == [
            ("used", True, 0),
            ("regression", False, 1),
            ("regression", True, 0),
        ]


def test_one_who_says_why_lets_software_in(counting: Path, tmp_path: Path, nightmill: Nightmill) -> None:
    gated(counting)
    program(tmp_path / "bin", more=1)
    assert ran(counting, "second") == ["ready", "ready", "ready"]
    asked = nightmill("sql", "SELECT bare_sha256 AS sha256 FROM software ORDER BY id", "--json")
    known = [row["sha256"] for row in asked.json]
    for digest, told in {
        known[-1][:12]: "--why is empty",
        known[-1][:3]: "is too short for a digest; give 6 digits",
        "0" * 12: "no software named '000000000000'; see 'nightmill ops software'",
    }.items():
        called = nightmill("regress", "--accept", digest, *(() if "why" in told else ("--why", "w")))
        assert (called.code, called.out) == (2, "")
        assert told in called.err
    assert nightmill("regress", "--accept", known[-1][:12], "--why", "looked at it").out.endswith("is accepted\n")
    assert ran(counting, "second") == ["done", "done", "done"]


def test_a_site_that_warns_goes_on_and_says_so(counting: Path, tmp_path: Path, nightmill: Nightmill) -> None:
    gated(counting, "warn")
    assert ran(counting, "second") == ["done", "done", "done"]
    assert "well  software: steps ran with nothing new\n" in nightmill("doctor").out
    program(tmp_path / "bin", more=1)
    assert ran(counting, "third") == ["done", "done", "done"]
    assert "is new to the site on host" in nightmill("logs", "third/count/exposure=1").out
    assert "WRONG software: steps ran with " in nightmill("doctor").out
    used = nightmill("ops", "software", "--json").json
    assert [(each["known"], each["executions"], each["campaigns"]) for each in used] == [
        (True, 6, ["first", "second"]),
        (None, 3, ["third"]),
    ]
    assert nightmill("ops", "software", "third").out.splitlines()[1].split("\t")[2] == "3"
    assert "no campaign named 'fourth'" in nightmill("ops", "software", "fourth").err


def test_what_ran_while_nobody_looked_is_known_when_somebody_looks(
    counting: Path, tmp_path: Path, nightmill: Nightmill
) -> None:
    config = (counting / "nightmill.yaml").read_text()
    gated(counting)
    assert ran(counting, "second") == ["done", "done", "done"]
    (counting / "nightmill.yaml").write_text(config)
    program(tmp_path / "bin", more=1)
    assert ran(counting, "third") == ["done", "done", "done"]
    gated(counting)
    assert ran(counting, "fourth") == ["done", "done", "done"]
    acts = nightmill("acts", "--verb", "software", "--json").json
    assert [act["detail"]["new"] for act in acts] == ["gate", "allow", "gate"]


@pytest.mark.req("B49")
def test_each_execution_has_its_provenance(counting: Path, tmp_path: Path, nightmill: Nightmill) -> None:
    shown = nightmill("show", JOB, "--json").json
    [run], attempt = shown["executions"], shown["shown"]
    assert run["began_at"] < run["ended_at"]
    assert run["wall_seconds"] > 0
    assert run["user_seconds"] + run["system_seconds"] > 0
    assert run["max_rss_bytes"] > 0
    assert run["read_bytes"] > 0
    assert run["written_bytes"] > 0
    assert (run["host"], run["exit_code"], run["signal"]) == (os.uname().nodename, 0, None)
    assert run["argv"] == ["photons", "../inputs/cam_0001.fits", "cam_0001_photons_c0001a01.txt"]
    assert run["environment"]["FLAVOUR"] == "vanilla"
    assert run["environment"]["PATH"] == os.environ["PATH"]
    assert run["software"]["programs"]["photons"] == "photons 1.0"
    assert run["software"]["programs"][str(tmp_path / "bin/photons")].startswith("sha256:")
    assert run["software"]["bundle"] == {"digest": attempt["bundle"]}
    assert {"distributions", "os", "kernel", "cpu"} <= run["software"].keys()
    for digest in (run["files_sha256"], run["software_sha256"], attempt["order_sha256"], attempt["plan_sha256"]):
        assert re.fullmatch("[0-9a-f]{64}", digest)
    people = nightmill("show", JOB).out
    [used] = nightmill("ops", "software", "--json").json
    assert f"with software {used['software'][:12]}; read " in people, "by the same digest"
    assert f"configuration: order {attempt['order_sha256'][:12]}, plan {attempt['plan_sha256'][:12]}" in people


def test_two_jobs_are_compared_step_by_step(counting: Path, tmp_path: Path, nightmill: Nightmill) -> None:
    assert ran(counting, "second") == ["done", "done", "done"]
    same = nightmill("compare", JOB, "second/count/exposure=3")
    assert (same.code, same.out.splitlines()[-1]) == (0, "the software is the same")
    (counting / "pipeline.yaml").write_text(PIPELINE + "# edited\n")
    program(tmp_path / "bin", version="2")
    assert ran(counting, "third") == ["done", "done", "done"]
    found = nightmill("compare", JOB, "cam_0001_photons_c0003a01.txt", "--json").json
    assert (found["same"], found["after"]) == (
        False,
        "cam_0001_photons_c0003a01.txt, made by third/count/exposure=1/a01 count",
    )
    [step] = found["software"]
    assert step["step"] == "count"
    assert [(each["section"], each["before"] is None, each["after"] is None) for each in step["changes"]] == [
        ("bundle", False, False),
        ("programs", False, False),
        ("programs", False, False),
    ]
    for name, told in {
        "cam_0001.fits": "nothing is on record of the software of cam_0001.fits",
        "nothing": "no job, file or software named 'nothing'; name CAMPAIGN/STAGE/UNIT, a file, or digits that",
        "first/count/exposure=9": "no job",
    }.items():
        called = nightmill("compare", JOB, name)
        assert (called.code, called.out) == (2, "")
        assert told in called.err


def test_what_cannot_be_carried_out_again_is_refused(counting: Path, nightmill: Nightmill) -> None:
    for arguments, told in {
        (): "a regression needs a reference",
        ("cam_0001.fits",): "no attempt made file cam_0001.fits",
        ("nothing.fits",): "no file or job named 'nothing.fits'",
        (JOB, "--column", "flux"): "--column 'flux' is not NAME=FRACTION",
        (JOB, "--accept", "abcdef"): "a regression needs a reference",
    }.items():
        called = nightmill("regress", *arguments)
        assert (called.code, called.out) == (2, "")
        assert told in called.err
    (counting / "stores/backbone").rename(counting / "stores/away")
    called = nightmill("regress", JOB)
    assert called.code == 2
    assert "cannot be had" in called.err
    assert list((counting / "scratch").glob("regress*")) == []


def test_hosts_that_differ_from_the_rest_are_flagged(counting: Path, tmp_path: Path, nightmill: Nightmill) -> None:
    program(tmp_path / "bin", version="2")
    deliver(tmp_path / "more", 4)
    assert nightmill("ingest", tmp_path / "more/cam_0004.fits", "--type", "raw_science", "--origin", "raw").code == 0
    (counting / "second.yaml").write_text("campaign: second\npipeline: pipeline.yaml\n")
    with open_site(counting) as site:
        run_campaign(site, counting / "second.yaml")
        program(tmp_path / "bin")
        conduct(site, "second")
    nobody = nightmill("ops", "software", "second", "--json").json
    assert [each["odd_hosts"] for each in nobody] == [{}]
    with open_site(counting) as site:
        from sqlalchemy import update

        from nightmill.backbone.schema import ExecutionRow, SoftwareRow

        def elsewhere(session: object) -> None:
            first = select(SoftwareRow.id).order_by(SoftwareRow.id).limit(1).scalar_subquery()
            one = select(ExecutionRow.id).order_by(ExecutionRow.id.desc()).limit(1).scalar_subquery()
            session.execute(  # type: ignore[attr-defined]
                update(ExecutionRow).where(ExecutionRow.id == one).values(host="node7", software_id=first)
            )

        site.database.write(elsewhere)
    flagged = nightmill("ops", "software", "second", "--json").json
    assert [each["odd_hosts"] for each in flagged] == [{}, {"node7": "programs"}]
    assert "node7 (programs)" in nightmill("ops", "software", "second").out


def test_libraries_that_only_one_side_was_asked_for_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Stack(programs={"wc": "wc 1"})
    traced = plain.model_copy(update={"libraries": {"libc.so": "sha256:1", "libm.so": "sha256:2"}})
    stacks = [KnownStack(1, each.sha256, each.bare_sha256, each) for each in (plain, traced)]
    before, after = (Side("a", {"count": stack}) for stack in stacks)
    show_comparison(before, after, compare_software(before, after), as_json=False)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "step count:",
        "  libraries: 2, known of the later alone; --json names them",
    ]
