"""``nightmill ship-logs``: the lines of a campaign on their way to a receiver that is down, and killed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from nightmill.cli.documents.logs import ShippedLines
from nightmill.model.logs import LogLine
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.examples.campaigns import run_again, run_campaign
from tests.support.syslog import syslog_ng

TYPES = '  copy: {template: "cam_{exposure:04d}_copy_c{campaign:04d}a{attempt:02d}.fits"}\n'
PIPELINE = """\
pipeline: telling
version: "1.0"
stages:
  tell:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
    steps:
      - name: look
        argv: [sh, -c, "SCRIPT", sh, "{unit.exposure}", "{inputs.frame}", "{outputs.copy}"]
        inputs: [frame]
        outputs:
          copy: {type: copy}
"""
SCRIPT = "seq 100; echo 'ERROR: no guide star'; test $1 != 2 || exit 3; cp $2 $3"


@pytest.mark.req("B51", "REQ-0034")
def test_every_line_of_every_attempt_arrives_though_the_sink_was_down(
    each_folder: Path, tmp_path: Path, nightmill: Nightmill
) -> None:
    with syslog_ng(tmp_path / "receiver") as receiver:
        receiver.kill()
        with (each_folder / "nightmill.yaml").open("a") as file:
            file.write(f'logs: {{sinks: {{elk: {{url: "{receiver.url}"}}}}}}\n')
        describe(each_folder, TYPES, PIPELINE.replace("SCRIPT", SCRIPT))
        take_in(nightmill, tmp_path / "night", 2)
        with open_site(each_folder) as site:
            run_campaign(site, each_folder / "first.yaml")
            run_again(site, "first")

        away = nightmill("ship-logs", "--once")
        assert (away.code, away.out) == (3, "elk: 0 lines sent\n")
        assert f"elk is away: {receiver.url}: Connection refused; what waits is sent later" in away.err
        assert re.search(r"elk: [\d.]+ kB of lines wait", (doctor := nightmill("doctor")).out)
        assert doctor.code == 1

        receiver.start()
        sent = nightmill("ship-logs", "--once", "--json")
        assert sent.code == 0
        (told,) = sent.json
        assert list(told) == [field.name for field in fields(ShippedLines)]
        again = nightmill("ship-logs", "--once")
        assert (again.code, again.out) == (0, "elk: 0 lines sent\n")
        assert "well  log sink elk: it has every line" in nightmill("doctor").out

        lines = [LogLine.model_validate(each) for each in receiver.received()]
        assert max(Counter(line.id for line in lines).values()) == 1
        assert len(lines) == told["lines"]
        of_steps = Counter((line.job, line.attempt) for line in lines if line.step == "look")
        tries = [("first/tell/exposure=1", 1), ("first/tell/exposure=2", 1), ("first/tell/exposure=2", 2)]
        assert {of: count >= 102 for of, count in of_steps.items()} == dict.fromkeys(tries, True)
        assert {line.level for line in lines if line.message == "ERROR: no guide star"} == {"ERROR"}
        # the whole log of each attempt is in the store, as ever, and evidence begins with what tells
        found = nightmill("find", "--type", "log", "--all", "--json").json
        assert len(found) == 3
        assert nightmill("logs", "first/tell/exposure=2", "--attempt", "1").out.count("\n") == 102
        failed = nightmill("show", "first/tell/exposure=2", "--json").json
        assert {each["evidence"].partition("\n")[0] for each in failed["attempts"]} == {
            "step 'look' exited with code 3: ERROR: no guide star"
        }


def test_what_a_site_may_not_say_of_sinks(folder: Path, nightmill: Nightmill) -> None:
    assert "names no sink for log lines" in nightmill("ship-logs", "--once").err
    refused = nightmill("ship-logs", "--json")
    assert (refused.code, "add --once" in refused.err) == (2, True)
    plain = (folder / "nightmill.yaml").read_text()
    for said, told in {
        'sinks: {elk: {url: "udp://x:1"}}': "a sink whose 'url' is tcp://HOST:PORT",
        'sinks: {elk: {url: "tcp://x"}}': "a sink whose 'url' is tcp://HOST:PORT",
        'sinks: {elk: {url: "tcp://x:1", ca: a.pem}}': "a sink with 'ca' where",
        'sinks: {"a/b": {url: "tcp://x:1"}}': "logs.sinks.a/b",
        "max_bytes: 5": "logs.max_bytes",
        "sink: {}": "logs.sink",
    }.items():
        (folder / "nightmill.yaml").write_text(f"{plain}logs: {{{said}}}\n")
        called = nightmill("ship-logs", "--once")
        assert (called.code, told in called.err) == (2, True), called.err


def test_doctor_tells_of_authorities_that_cannot_be_read(each_folder: Path, nightmill: Nightmill) -> None:
    with (each_folder / "nightmill.yaml").open("a") as file:
        file.write('logs: {sinks: {elk: {url: "tls://127.0.0.1:1", ca: keys/ca.pem}}}\n')
    told = f"log sink elk: its ca {each_folder}/keys/ca.pem cannot be read: No such file or directory"
    assert told in nightmill("doctor").out
