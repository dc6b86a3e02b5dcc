"""A site is taught what its failures mean: rules are tried on the past, switched on, and name and settle what comes."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest
from sqlalchemy import text

from nightmill.backbone.catalogue.error_rules import in_force
from nightmill.config.error_rules import load_error_rules
from nightmill.operations.drain import drain
from tests.cli.conftest import Nightmill
from tests.operations.failing import Failing

ME = getpass.getuser()
RULES = """\
errors:
  license:
    step: det*
    exit: [75]
    says: "no licen[cs]e"
    explanation: All licenses are taken
    link: https://example.org/runbook/license
    action: retry
    retry: {tries: 2, wait_seconds: 0.2}
  no-stars:
    fate: [step_failed]
    says: "^no star"
    explanation: The field has too few stars
    action: hold
"""
ACCEPTING = """\
errors:
  few-stars:
    step: det*
    exit: [4]
    says: "^few stars"
    explanation: The fit is a straight line
    link: https://example.org/runbook/few
    action: accept
"""
TOO_MUCH = (
    "should be a rule that names the step and its exit codes, other than 0, where its action is accept: everything"
)
BAD_TO_ACCEPT = [
    ("step: s", TOO_MUCH),
    ("exit: [4]", TOO_MUCH),
    ("says: few", TOO_MUCH),
    ("step: s, exit: [0, 4]", TOO_MUCH),
    ("step: s, exit: [4], fate: [step_failed]", "should be a rule without 'fate' where its action is accept"),
    ("step: s, exit: [4], retry: {tries: 1}", "should be a rule with 'retry' where its action is retry"),
]
TEXTS = ["exit 75 no license left", "exit 3 no star in the field", "exit 3 division by zero", "seconds 0"]


@pytest.fixture
def failing(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Give a site of whose four jobs three have failed, of errors that it does not know; it is the working folder."""
    made = Failing.build(tmp_path, database_url, TEXTS)
    monkeypatch.chdir(made.observatory.directory)
    Path("errors.yaml").write_text(RULES)
    return made


def states(failing: Failing) -> list[str]:
    return [job.state for job in failing.observatory.jobs("night1").values() if job.stage == "science"]


@pytest.mark.req("X19", "F25", "REQ-0032")
def test_a_rule_is_tried_on_what_failed_before_and_then_settles_what_comes(
    failing: Failing, nightmill: Nightmill
) -> None:
    failing.conduct()
    added = nightmill("errors", "add", "errors.yaml", "--why", "seen in January")
    assert added.out.splitlines() == [
        "license (version 1): off",
        "no-stars (version 1): off",
        "try it on past failures, then switch it on: nightmill errors try license; nightmill errors on license",
    ]
    tried = nightmill("errors", "try", "license").out
    assert "license would have named 1 of 3 failures\n  night1: 1\n  of them without a name so far: 1\n" in tried
    assert "night1/science/exposure=100/a01\tdetect\tstep_failed" in tried
    assert tried.endswith("nothing was changed\n")
    failing.conduct()
    assert [attempt.error_id for attempt in failing.attempts()] == [None] * len(failing.attempts()), "they are off"
    for name in ("license", "no-stars"):
        assert nightmill("errors", "on", name, "--why", "tried").out == f"{name} (version 1): on\n"
    before = failing.tries()
    failing.conduct()
    assert [after - first for first, after in zip(before, failing.tries(), strict=True)] == [3, 1, 1, 0]
    assert states(failing) == ["failed", "held", "failed", "done"]
    status = nightmill("status", "night1").out
    assert "failed: night1/science/exposure=100: detect: step_failed: license: step 'detect' exited with" in status
    assert "error license: 1 job: All licenses are taken (https://example.org/runbook/license)" in status
    assert "held: 1 job: no-stars: The field has too few stars (waits for its release)" in status
    with failing.observatory.open() as site, site.database.reading() as session:
        named = session.execute(text("SELECT error, explanation FROM job_status WHERE error IS NOT NULL ORDER BY unit"))
        assert [error for error, _ in named] == ["license", "no-stars"]
    told = nightmill("status", "night1", "--json").json[0]
    assert [job["error"] for job in told["failed"]] == ["license", ""]
    assert [(held["by"], held["why"]) for held in told["holds"]] == [
        ("review", "no-stars: The field has too few stars")
    ]
    shown = nightmill("show", "night1/science/exposure=100").out
    assert "error license (version 1): All licenses are taken (https://example.org/runbook/license)" in shown
    [last] = nightmill("show", "night1/science/exposure=101", "--json").json["attempts"][-1:]
    assert (last["error"], last["error_version"]) == ("no-stars", 1)
    again = nightmill("errors", "try", "license", "--json").json[0]
    assert {named["error"] for named in again["named"]} == {"", "license"}
    assert nightmill("errors", "try", "errors.yaml", "--campaign", "night1", "--latest", "1").code == 0


def test_rules_are_only_added_to_and_a_new_version_waits_for_its_switch(failing: Failing, nightmill: Nightmill) -> None:
    why = ("--why", "because")
    assert nightmill("errors", "add", "errors.yaml", *why).code == 0
    assert nightmill("errors", "on", "license", *why).code == 0
    assert nightmill("errors", "add", "errors.yaml", *why).out.splitlines()[0] == "license (version 1): on"
    Path("errors.yaml").write_text(RULES.replace("All licenses", "Both licenses"))
    assert "license (version 2): off" in nightmill("errors", "add", "errors.yaml", *why).out
    listed = nightmill("errors", "list", "--json").json
    assert [(each["name"], each["version"], each["on"]) for each in listed] == [
        ("license", 1, True),
        ("license", 2, False),
        ("no-stars", 1, False),
    ]
    assert "retry 2, after 0.2 s" in nightmill("errors", "list").out
    assert nightmill("errors", "on", "license", *why).out == "license (version 2): on\n"
    with failing.observatory.open() as site, site.database.reading() as session:
        assert [(each.rule.name, each.version) for each in in_force(session)] == [("license", 2)]
    assert nightmill("errors", "on", "license", "--version", "1", *why).out == "license (version 1): on\n"
    assert nightmill("errors", "off", "license", *why).out == "license (version 1): off\n"
    for arguments, told in [
        (("off", "license"), "error license (version 2) is off already; leave it as it is"),
        (("on", "licence"), "no error named 'licence' (did you mean 'license'?); see 'nightmill errors list'"),
        (("on", "license", "--version", "7"), "error 'license' has the versions 1 to 2, and none is 7"),
    ]:
        called = nightmill("errors", *arguments, *why)
        assert called.code == 2
        assert told in called.err
    assert nightmill("errors", "on", "license", "--why", " ").code == 2


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("{says: '(?=a)', explanation: x}", "should be a regular expression of RE2: invalid perl operator: (?="),
        ("{says: 'a{9999}', explanation: x}", "should be a regular expression of RE2"),
        ("{explanation: x}", "should be a rule that says what it names: one of step, stage, exit, fate and says"),
        ("{fate: [out_of_memry], explanation: x}", "(did you mean 'out_of_memory'?)"),
        ("{fate: [lost], explanation: x, action: retry}", "should be a rule with 'retry' where its action is retry"),
        (
            "{fate: [lost], explanation: x, acton: fail}",
            "e.yaml:1: unknown key errors.odd.acton (did you mean 'action'?)",
        ),
        ("{fate: [lost], explanation: x, link: 'javascript:x'}", "errors.odd.link"),
        ("{fate: [lost]}", "errors.odd.explanation is missing"),
        *((f"{{{rule}, explanation: x, action: accept}}", told) for rule, told in BAD_TO_ACCEPT),
        ("7", "errors.odd is a number and should be a mapping"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_by_place(tmp_path: Path, nightmill: Nightmill, rule: str, told: str) -> None:
    (tmp_path / "e.yaml").write_text(f"errors: {{odd: {rule}}}\n")
    called = nightmill("errors", "add", tmp_path / "e.yaml", "--why", "x", "--site", tmp_path)
    assert (called.code, called.out) == (2, "")
    assert told in called.err


def test_a_pattern_takes_no_longer_than_a_log_is_long(tmp_path: Path, nightmill: Nightmill) -> None:
    # with another engine this would go on beyond the time that a test has
    text = "exit 3 " + "a" * 20_000 + "!"
    failing = Failing.build(tmp_path, "", [text])
    Path(tmp_path / "e.yaml").write_text("errors: {evil: {says: '^(a|aa)+$|(a*)*[#]$', explanation: x}}\n")
    failing.conduct()
    site = failing.observatory.directory
    assert "would have named 0 of 1 failure" in nightmill("errors", "try", tmp_path / "e.yaml", "--site", site).out


def test_a_rule_reads_the_log_behind_the_evidence_and_does_without_one_that_is_gone(
    tmp_path: Path, nightmill: Nightmill
) -> None:
    lines = "\n".join(f"note {tmp_path / 'notes'}" for _ in range(3))
    failing = Failing.build(tmp_path, "", [f"{lines}\nexit 3 the first words"])
    failing.conduct()
    site = failing.observatory.directory
    (tmp_path / "e.yaml").write_text("errors: {words: {says: '^== detect', explanation: x}}\n")
    (tmp_path / "f.yaml").write_text("errors: {words: {says: 'first words', explanation: x}}\n")
    try_ = ("errors", "try", "--site", site)
    assert "would have named 0 of 1" in nightmill(*try_, tmp_path / "e.yaml").out, "the line of nightmill itself"
    assert "would have named 1 of 1" in nightmill(*try_, tmp_path / "f.yaml").out
    for log in (site / "stores" / "backbone").rglob("*log*"):
        if log.is_file():
            log.unlink()
    assert "would have named 1 of 1" in nightmill(*try_, tmp_path / "f.yaml").out, "the evidence has it too"


def test_a_drain_names_what_a_dead_slice_left(failing: Failing, nightmill: Nightmill) -> None:
    assert nightmill("errors", "add", "errors.yaml", "--why", "x").code == 0
    assert nightmill("errors", "on", "no-stars", "--why", "x").code == 0
    with failing.observatory.open() as site:
        work = failing.work(site)
        with pytest.raises(KeyboardInterrupt), work:
            orders = work.issue(4)
            list(work.worker.run(orders))
            work._end = lambda: None  # type: ignore[method-assign]  # killed: nothing is recorded, nothing given back
            raise KeyboardInterrupt
        drain(site)
    named = {attempt.evidence: attempt.error_id for attempt in failing.attempts() if attempt.error_id}
    assert len(named) == 1
    assert "held" in states(failing)


def test_rules_are_asked_by_priority_and_then_by_name(tmp_path: Path, nightmill: Nightmill) -> None:
    failing = Failing.build(tmp_path, "", ["exit 3 both"])
    site = failing.observatory.directory
    rule = "says: both, explanation: x"
    (tmp_path / "e.yaml").write_text(f"errors: {{b: {{{rule}}}, a: {{{rule}}}, z: {{{rule}, priority: 5}}}}\n")
    rules = load_error_rules(tmp_path / "e.yaml")
    assert [each.name for each in rules] == ["b", "a", "z"]
    for arguments in (("add", tmp_path / "e.yaml"), ("on", "a"), ("on", "b"), ("on", "z")):
        assert nightmill("errors", *arguments, "--why", "x", "--site", site).code == 0
    failing.conduct()
    assert [job.error for job in failing.observatory.jobs("night1").values()] == ["z"]
    assert "  of them z by the rules that are on: 1" in nightmill("errors", "try", "a", "--site", site).out


@pytest.mark.req("X19")
def test_a_rule_that_accepts_lets_a_job_be_done_and_is_seen_with_it(
    tmp_path: Path, database_url: str, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["warn 4 few stars", "warn 4 no model", "exit 4 few stars", "seconds 0"]
    failing = Failing.build(tmp_path, database_url, texts)
    monkeypatch.chdir(failing.observatory.directory)
    Path("errors.yaml").write_text(ACCEPTING)
    failing.conduct()
    assert states(failing) == ["failed", "failed", "failed", "done"]
    tried = nightmill("errors", "try", "errors.yaml").out
    assert tried.startswith("few-stars would have accepted 2 of 3 failures\n  night1: 2\n")
    assert tried.endswith(
        "their outputs would have been checked all the same: one that is missing or bad fails its job\n"
        "nothing was changed\n"
    )
    assert nightmill("errors", "try", "errors.yaml", "--json").json[0]["action"] == "accept"
    for arguments in (("add", "errors.yaml"), ("on", "few-stars")):
        assert nightmill("errors", *arguments, "--why", "looked at twenty fits").code == 0
    assert nightmill("errors", "list", "--json").json[0]["action"] == "accept"
    failing.conduct()
    assert states(failing) == ["done", "failed", "failed", "done"]
    status = nightmill("status", "night1").out
    meaning = "The fit is a straight line (https://example.org/runbook/few)"
    assert f"\naccepted few-stars: 1 job: {meaning}\n" in status
    missing = "exited with code 4, accepted as few-stars (version 1), and did not make product (product)"
    assert f"failed: night1/science/exposure=102: detect: missing_output: step 'detect' {missing}" in status
    assert "error few-stars" not in status
    told = nightmill("status", "night1", "--json").json[0]
    assert [(each["error"], each["jobs"]) for each in told["accepted"]] == [("few-stars", 1)]
    assert [each["error"] for each in told["failed"]] == ["", ""]
    shown = nightmill("show", "night1/science/exposure=100").out
    assert "detect\tsucceeded, accepted as few-stars\t4\t" in shown
    assert f"accepted few-stars (version 1): {meaning}\n" in shown
    line = "science/exposure=100\tdone\t2\t\tpublished\taccepted: few-stars\n"
    assert line in nightmill("show", "night1").out
    told = nightmill("why", "0100_product_c0001a02.txt").out
    assert "\nIt exited with code 4, accepted as few-stars (version 1).\n" in told
    [ran] = nightmill("show", "night1/science/exposure=102", "--json").json["executions"]
    assert (ran["state"], ran["accepted"], ran["accepted_version"]) == ("failed", "few-stars", 1)
    query = "SELECT attempt, state, exit_code, accepted FROM step_cost WHERE accepted IS NOT NULL ORDER BY state"
    with failing.observatory.open() as site, site.database.reading() as session:
        rows = [tuple(row) for row in session.execute(text(query))]
    assert rows == [(2, "failed", 4, "few-stars"), (2, "succeeded", 4, "few-stars")]
