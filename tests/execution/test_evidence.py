"""What is found of why a step failed in what it printed."""

from __future__ import annotations

import pytest

from nightmill.execution.evidence import evidence_in, on_one_line
from nightmill.execution.logs.lines import level_of
from nightmill.execution.worker import Worker
from nightmill.model.error_rule import ErrorRule, compiled
from nightmill.model.node import NodeProfile
from tests.support.orders import Bench, shell

ESOREX = """\
[ INFO  ] esorex: This is EsoRex
[ INFO  ] esorex: reading set of frames
[ ERROR ] hawki_dark_combine: Cannot load frame 2: no such extension
[ ERROR ] hawki_dark_combine: [tid=000] hawki_load.c:112
[ INFO  ] esorex: Calculating
[ INFO  ] esorex: product checksums
[ INFO  ] esorex: 0 products created
[ INFO  ] esorex: time 0.1 s
[ INFO  ] esorex: peak 12 MB
[ INFO  ] esorex: recipe done
"""


def test_a_recipe_whose_last_line_says_nothing() -> None:
    assert evidence_in("", ESOREX).splitlines() == [
        "[ ERROR ] hawki_dark_combine: Cannot load frame 2: no such extension",
        "[ ERROR ] hawki_dark_combine: [tid=000] hawki_load.c:112",
        "[ INFO  ] esorex: Calculating",
        "[ INFO  ] esorex: product checksums",
        "at the end:",
        "[ INFO  ] esorex: 0 products created",
        "[ INFO  ] esorex: time 0.1 s",
        "[ INFO  ] esorex: peak 12 MB",
        "[ INFO  ] esorex: recipe done",
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a\nb\nTraceback (most recent call last):\n  File x\n    y\nKeyError: 'z'\n" + "bye\n" * 9, "KeyError: 'z'"),
        ("sh: 1: nosuch: command not found\ncleaning up\n", "sh: 1: nosuch: command not found"),
        ("Segmentation fault (core dumped)\nend\n", "Segmentation fault (core dumped)"),
        ("> *Error*: cannot open x.fits\n\nfinished\n", "> *Error*: cannot open x.fits"),
        ("fatal error: no memory\nend\n", "fatal error: no memory"),
        ("2026-01-01 12:00 worker FATAL no license\nend\n", "2026-01-01 12:00 worker FATAL no license"),
        ("ERROR = 0.3 px\n0 ERRORS\nMAG_ERROR 1\nno model\n", "no model"),
        ("100\nERROR: x\nend\n", "ERROR: x"),
        ("", ""),
    ],
)
def test_common_words(text: str, first: str) -> None:
    assert evidence_in("", text).partition("\n")[0] == first


def test_what_the_site_knows_goes_before_common_words_wherever_it_stands() -> None:
    said = evidence_in("ERROR first\n", "x\nonly 2 stars found\ny\n", [compiled("only [0-9] stars")])
    assert said.splitlines() == ["only 2 stars found", "y", "at the end:", "x", "only 2 stars found", "y"]


def test_long_lines_and_bytes_that_are_not_text_stay_short() -> None:
    assert len(evidence_in("", "ERROR \x00" + "x" * 100_000)) < 600


def test_rules_of_the_site_find_the_line_that_tells(bench: Bench) -> None:
    rule = ErrorRule(name="few", step="fit", says="only [0-9] stars", explanation="clouds")
    other = ErrorRule(name="other", step="load", says="begin", explanation="another step")
    order = bench.order(shell("fit", "echo begin; echo only 2 stars; seq 20; exit 4"))
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        worker.learn([rule, other])
        (report,) = worker.run([order])
    assert report.evidence.splitlines()[0] == "step 'fit' exited with code 4: only 2 stars"
    assert report.evidence.splitlines()[-1] == "20"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("[ ERROR ] x", "ERROR"),
        ("[WARNING] esorex: x", "WARNING"),
        ("2026-01-01 DEBUG x", "DEBUG"),
        ("> WARNING: x", "WARNING"),
        ("error: x", "ERROR"),
        ("KeyError: x", "ERROR"),
        ("Traceback (most recent call last):", "ERROR"),
        ("Fatal: x", "CRITICAL"),
        ("FATAL x", "CRITICAL"),
        ("an error bar of 3", "INFO"),
        ("x", "INFO"),
    ],
)
def test_levels(line: str, level: str) -> None:
    assert level_of(line) == level


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u202e", "\u2066", "\x85", "\n", "\x1b", "\ud800"])
def test_what_ends_a_line_or_turns_its_direction_is_shown_as_unfit(sign: str) -> None:
    assert on_one_line(f"a{sign}step 'two' passed") == "a\ufffdstep 'two' passed"
