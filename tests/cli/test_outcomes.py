"""What jobs come to, asked at the command line: outputs that nobody could count beforehand, and try after try."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.operations.site import open_site
from tests.cli.conftest import Called, Nightmill
from tests.examples.campaigns import run_again, run_campaign
from tests.support.observatory import deliver, frame, stored

TYPES = """\
  cut: {template: "cam_{exposure:04d}_cut{n:02d}_c{campaign:04d}a{attempt:02d}.txt"}
  chart: {template: "cam_{exposure:04d}_chart_c{campaign:04d}a{attempt:02d}.txt"}
  flat: {template: "cam_{exposure:04d}_flat_c{campaign:04d}a{attempt:02d}.fits"}
  stars:
    template: "cam_{exposure:04d}_stars_c{campaign:04d}a{attempt:02d}.txt"
    metadata: {method: {constant: counting}}
"""
CUTTING = """\
pipeline: cutting
version: "1.0"
stages:
  cut:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
      masks: {type: mask, min: 0, max: 3, match: [detector]}
    steps:
      - name: cut
        argv: ["sh", "-c", "for n in $(seq {unit.exposure}); do echo $# > c$n.cut; done", "sh", "{inputs.masks}"]
        inputs: [frame, masks]
        outputs:
          cuts: {type: cut, produces: "*.cut", min: 2, max: 4}
          chart: {type: chart, required: false}
"""
COUNTING = """\
pipeline: counting
version: "2.1"
stages:
  count:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
    steps:
      - name: flatten
        argv: ["sh", "-c", "echo flattening; cp $0 $1", "{inputs.frame}", "{outputs.flat}"]
        inputs: [frame]
        outputs:
          flat: {type: flat, to: none}
      - name: count
        argv:
          - sh
          - -c
          - "test {unit.exposure} = 1 || cat FLAG || exit 3; wc -c < $0 > $1"
          - "{inputs.flat}"
          - "{outputs.stars}"
        inputs: [flat]
        outputs:
          stars: {type: stars}
"""
JOB = "night1/count/exposure=2"
STARS = "cam_0002_stars_c0001a02.txt"


def prepare(folder: Path, pipeline: str) -> None:
    with (folder / "file_types.yaml").open("a") as file:
        file.write(TYPES)
    (folder / "pipeline.yaml").write_text(pipeline)
    (folder / "night1.yaml").write_text("campaign: night1\npipeline: pipeline.yaml\n")


def taken_in(nightmill: Nightmill, *arguments: object) -> Called:
    called = nightmill("ingest", *arguments)
    assert called.code == 0, called.err
    return called


@pytest.mark.req("REQ-0011", "REQ-0031")
def test_the_number_of_files_may_be_known_only_when_a_step_runs(
    folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    """The step makes as many files as the exposure's number says; two to four of them are declared."""
    prepare(folder, CUTTING)
    deliver(tmp_path / "night", 3)
    for number in (4, 5):
        (tmp_path / "night" / f"cam_000{number}.fits").write_bytes(frame(number, CCDNUM=2))
    taken_in(nightmill, tmp_path / "night", "--type", "raw_science", "--origin", "raw")
    (tmp_path / "mask.fits").write_bytes(frame(CCDNUM=2))
    as_mask = ("--type", "mask", "--origin", "manual", "--provenance", "by hand")
    taken_in(nightmill, tmp_path / "mask.fits", *as_mask)

    called = nightmill("plan", "night1.yaml", "--set", "pipeline.stages.cut.inputs.masks.min=1")
    assert called.code == 2
    assert "stage 'cut', input 'masks': at least 1 mask needed, none found" in called.err
    with open_site(folder) as site:
        run_campaign(site, folder / "night1.yaml")

    cuts = {each["name"]: each for each in nightmill("find", "--type", "cut", "--json").json}
    assert sorted(cuts) == [
        f"cam_000{number}_cut0{n}_c0001a01.txt" for number in (2, 3, 4) for n in range(1, number + 1)
    ]
    counted = {
        name: (folder / "stores/backbone" / each["copies"][0]["path"]).read_text() for name, each in cuts.items()
    }
    assert {name for name, masks in counted.items() if masks == "1\n"} == {name for name in cuts if "_0004_" in name}
    [standing] = nightmill("status", "night1", "--json").json
    failed = {each["job"]: (each["fate"], each["evidence"]) for each in standing["failed"]}
    assert failed.keys() == {"cut/exposure=1", "cut/exposure=5"}
    assert failed["cut/exposure=1"][0] == "missing_output"
    assert "1 of at least 2 files '*.cut'" in failed["cut/exposure=1"][1]
    assert "made 5 files '*.cut' for cuts, at most 4 are declared" in failed["cut/exposure=5"][1]
    assert nightmill("find", "--type", "chart", "--json").json == []


@pytest.fixture
def tried_twice(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site whose campaign came to its end at the second try: the first failed at exposure 2."""
    flag = tmp_path / "flag"
    prepare(each_folder, COUNTING.replace("FLAG", str(flag)))
    deliver(tmp_path / "night", 2)
    taken_in(nightmill, tmp_path / "night", "--type", "raw_science", "--origin", "raw")
    with open_site(each_folder) as site:
        run_campaign(site, each_folder / "night1.yaml")
        flag.touch()
        run_again(site, "night1")
    return each_folder


@pytest.mark.req("REQ-0033", "REQ-0034", "REQ-0041")
def test_each_try_is_on_record_and_the_last_counts(tried_twice: Path, nightmill: Nightmill) -> None:
    products = [f"cam_0001_{kind}_c0001a01" for kind in ("flat", "stars")]
    products += [f"cam_0002_{kind}_c0001a02" for kind in ("flat", "stars")]
    found = nightmill("find", "--all", "--origin", "batch", "--json").json
    assert sorted(each["name"].partition(".")[0] for each in found if each["type"] != "log") == sorted(products)
    logs = {each["name"]: each["copies"][0]["path"] for each in found if each["type"] == "log"}
    assert sorted(logs) == [f"counting_count_{job}.log" for job in ("1_c0001a01", "2_c0001a01", "2_c0001a02")]
    texts = {name: stored(tried_twice)[path].decode() for name, path in logs.items()}
    assert all("flattening" in text for text in texts.values())
    assert "No such file" in texts["counting_count_2_c0001a01.log"]
    kept = [Path(path).name for path in stored(tried_twice) if not path.startswith("bundles/")]
    assert sorted(kept) == sorted(["cam_0001.fits", "cam_0002.fits", "cam_0001_stars_c0001a01.txt", STARS, *logs]), (
        "of the first try nothing but its log"
    )

    first, last = (nightmill("show", f"{JOB}/a0{number}", "--json").json for number in (1, 2))
    for each, states in ((first, ["succeeded", "failed"]), (last, ["succeeded", "succeeded"])):
        assert [run["step"] for run in each["executions"]] == ["flatten", "count"]
        assert [run["state"] for run in each["executions"]] == states
        assert [(used["step"], used["name"]) for used in each["inputs"]] == [("flatten", "cam_0002.fits")]
    assert [(each["number"], each["state"], each["result"]) for each in last["attempts"]] == [
        (1, "failed", False),
        (2, "published", True),
    ]
    down = nightmill("lineage", "cam_0002.fits", "--down").out
    for number in (1, 2):
        assert f"used by {JOB}/a0{number} flatten" in down


@pytest.mark.req("B47")
def test_provenance_speaks_of_files_by_name_and_id(tried_twice: Path, nightmill: Nightmill) -> None:
    [up] = nightmill("lineage", STARS, "--json").json
    names = {each["id"]: each["name"] for each in up["files"]}
    assert sorted(names.values()) == ["cam_0002.fits", "cam_0002_flat_c0001a02.fits", STARS]
    for edge in up["used"] + up["was_generated_by"]:
        assert edge["file"] == names[edge["file_id"]]
    assert [(edge["role"], edge["file"]) for edge in up["used"]] == [
        ("flat", "cam_0002_flat_c0001a02.fits"),
        ("frame", "cam_0002.fits"),
    ]
    known = nightmill("sql", "SELECT id, name FROM file", "--json").json
    assert names.items() <= {each["id"]: each["name"] for each in known}.items()


@pytest.mark.req("F16")
def test_a_product_has_name_version_places_and_metadata(tried_twice: Path, nightmill: Nightmill) -> None:
    told = nightmill("why", STARS, "--json").json
    file = told["file"]
    assert (file["name"], file["type"], file["metadata"]) == (STARS, "stars", {"method": "counting"})
    assert (file["data_id"]["exposure"], file["data_id"]["detector"]) == (2, 1)
    [copy] = file["copies"]
    assert (copy["store"], copy["state"]) == ("backbone", "present")
    assert (tried_twice / "stores/backbone" / copy["path"]).stat().st_size == file["size_bytes"]
    assert told["made_by"]["attempt_name"] == f"{JOB}/a02"
    assert nightmill("show", "night1", "--json").json["pipeline_version"] == "2.1"


@pytest.mark.req("REQ-0055")
def test_what_a_campaign_has_processed_can_be_asked(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    prepare(each_folder, COUNTING.replace("FLAG", str(tmp_path / "none")))
    deliver(tmp_path / "night", 3)
    taken_in(nightmill, tmp_path / "night", "--type", "raw_science", "--origin", "raw")
    with (each_folder / "night1.yaml").open("a") as file:
        file.write("where: exposure < 3\n")
    with open_site(each_folder) as site:
        run_campaign(site, each_folder / "night1.yaml")
    question = (
        "SELECT DISTINCT l.used_file AS image, j.state FROM lineage AS l JOIN step_cost AS s USING (execution_id)"
        " JOIN job_status AS j ON j.campaign = s.campaign AND j.stage = s.stage AND j.unit = s.unit"
        " WHERE s.campaign = 'night1' AND l.used_as = 'frame' ORDER BY image"
    )
    assert nightmill("sql", question, "--json").json == [
        {"image": "cam_0001.fits", "state": "done"},
        {"image": "cam_0002.fits", "state": "failed"},
    ]
