"""What becomes known of a step: what it opened, by the word of the kernel, what it told, and how these differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightmill.execution.witness import Witness
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.observed import Consequence, DifferenceKind, Observation, Policy
from nightmill.model.order import JobOrder, OrderOutput, OrderStep
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from tests.execution.failing import must_fail
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, output, python, shell

OUT = output("out", "out.txt")
READ_A = "cat ../inputs/a.txt > out.txt"
MODES = {
    "plainly": "open('../inputs/a.txt').read()",
    "by a hard link": "import os; os.link('../inputs/a.txt', 'b'); open('b').read(); os.unlink('b')",
    "by a symbolic link": "import os; os.symlink('../inputs/a.txt', 'b'); open('b').read(); os.unlink('b')",
    "to map it": "import mmap; f = open('../inputs/a.txt'); mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)[0]",
    "by /proc": "import os; os.open(f'/proc/self/fd/{os.open(\"../inputs/a.txt\", os.O_PATH)}', os.O_RDONLY)",
    "50,000 times": "[open('../inputs/a.txt').close() for _ in range(50_000)]",
    "in a child": "import subprocess; subprocess.run(['cat', '../inputs/a.txt'])",
    "in a child that outlives it": "import os, time\nif not os.fork():\n os.setsid(); open('../inputs/a.txt')\n"
    " open('up', 'w'); time.sleep(60)\nwhile not os.path.exists('up'): time.sleep(0.01)",
}  # fmt: skip


def order_of(bench: Bench, *steps: OrderStep, names: tuple[str, ...] = ("a.txt", "b.txt")) -> JobOrder:
    """Make an order with two inputs, of detectors 1 and 2."""
    inputs = tuple(
        bench.put(name, name.encode(), role="frames", type="text").model_copy(update={"data_id": {"detector": number}})
        for number, name in enumerate(names, start=1)
    )
    return bench.order(*steps, inputs=inputs)


def telling(line: str, *, read: str = READ_A, **changes: Any) -> OrderStep:
    """Make a step that reads the first of its inputs and tells a line."""
    script = f"{read}\ncat >> $NIGHTMILL_SIDECAR <<'E'\n{line}\nE\n"
    return shell("s", script, OUT, inputs=("a.txt", "b.txt"), **changes)


def observed(report: JobReport, place: int = 0) -> Observation:
    """Return what is known of a step."""
    found = report.steps[place].observed
    assert found is not None
    return found


def kinds(report: JobReport, place: int = 0) -> list[tuple[str, str, str]]:
    """Return the differences of a step: kind, name, and what followed."""
    return [(each.kind.value, each.name, each.consequence.value) for each in observed(report, place).differences]


@pytest.mark.req("B40", "B45")
def test_what_a_step_opened_is_known_though_it_says_nothing(bench: Bench) -> None:
    report = bench.run_one(order_of(bench, shell("s", READ_A, OUT, inputs=("a.txt", "b.txt"))))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    found = observed(report)
    assert (found.witness, found.opened, found.told) == ("inotify", ("a.txt",), False)
    assert kinds(report) == [("never_read", "b.txt", "noted")]


@pytest.mark.parametrize("mode", MODES)
def test_however_a_file_is_opened_the_witness_sees_it(bench: Bench, mode: str) -> None:
    step = python("s", MODES[mode], inputs=("a.txt", "b.txt"))
    report = bench.run_one(order_of(bench, step))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert observed(report).opened == ("a.txt",)


def test_the_opens_of_a_confined_step_are_seen_and_it_reads_its_index_and_tells(tmp_path: Path) -> None:
    bench = Bench(tmp_path, confinement=NodeConfinement(use=Use.TRY))
    line = '{"used": "a.txt"}'
    report = bench.run_one(order_of(bench, telling(line, read=f"grep -q '\"s\"' $NIGHTMILL_INDEX; {READ_A}")))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert (observed(report).opened, observed(report).used) == (("a.txt",), ("a.txt",))


def test_the_opens_of_a_step_in_an_image_are_seen_and_it_reads_its_index_and_tells(tmp_path: Path) -> None:
    needs_bubblewrap()
    name = make_image(tmp_path / "image")
    bench = Bench(tmp_path / "site", containers=Containers(runtime="bubblewrap", images={name: tmp_path / "image"}))
    read = f"cat $NIGHTMILL_INDEX > /dev/null && ! echo x 2>/dev/null >> $NIGHTMILL_INDEX && {READ_A}"
    report = bench.run_one(order_of(bench, telling('{"used": "a.txt"}', read=f"set -e; {read}", image=name)))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert (observed(report).opened, observed(report).used) == (("a.txt",), ("a.txt",))


def test_looking_at_a_file_does_not_open_it(bench: Bench) -> None:
    step = shell("s", "ls -l ../inputs; stat ../inputs/*; test -r ../inputs/a.txt", inputs=("a.txt", "b.txt"))
    report = bench.run_one(order_of(bench, step))
    assert observed(report).opened == ()
    assert [name for _kind, name, _then in kinds(report)] == ["a.txt", "b.txt"]


def test_a_file_that_is_opened_and_then_replaced_was_opened_and_the_step_fails(bench: Bench) -> None:
    script = f"{READ_A}; cp ../inputs/a.txt c; echo x >> c; mv -f c ../inputs/a.txt"
    order = order_of(bench, shell("s", script, OUT, inputs=("a.txt", "b.txt")))
    report = must_fail(bench, order, Fate.BAD_OUTPUT, "step 's' changed input frames (text) a.txt")
    assert observed(report).opened == ("a.txt",)


@pytest.mark.req("B40")
def test_what_steps_read_of_one_another_is_seen_and_what_was_not_planned_for_them(bench: Bench) -> None:
    one = shell("one", READ_A, OUT, inputs=("a.txt",))
    two = shell("two", "cat ../outputs/out.txt ../inputs/b.txt", inputs=("out.txt",))
    report = bench.run_one(order_of(bench, one, two))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert [observed(report, place).opened for place in (0, 1)] == [("a.txt",), ("out.txt",)]
    assert kinds(report, 1) == [("not_planned", "b.txt", "noted")]


@pytest.mark.req("B40")
def test_what_was_not_made_and_what_was_made_beside_it_are_differences(bench: Bench) -> None:
    maybe = output("maybe", "maybe.txt", required=False)
    step = shell("s", "echo 1 > out.txt; echo 2 > junk; mkdir more", OUT, maybe)
    report = bench.run_one(bench.order(step))
    assert kinds(report) == [("missing", "maybe.txt", "noted"), ("extra", "junk", "noted"), ("extra", "more", "noted")]
    lacking = bench.order(shell("s", "echo 2 > junk; exit 0", OUT), number=2)
    report = must_fail(bench, lacking, Fate.MISSING_OUTPUT, "did not make out (text) out.txt")
    assert kinds(report) == [("missing", "out.txt", "noted"), ("extra", "junk", "noted")]


def test_very_many_files_that_nobody_declared_do_not_flood_the_journal(bench: Bench) -> None:
    report = bench.run_one(bench.order(shell("s", "touch $(seq 1000)")))
    assert len(kinds(report)) == 51
    assert kinds(report)[-1] == ("extra", "950 more", "noted")


POLICIES = {
    "never_read": (telling(""), Fate.BAD_OUTPUT, "step 's' did not open b.txt, which is there for it"),
    "extra": (telling("", read=READ_A + "; touch junk"), Fate.BAD_OUTPUT, "step 's' made junk, which no output"),
    "eliminated": (telling('{"eliminated": "a.txt", "reason": "faint"}'), Fate.BAD_OUTPUT, "left a.txt out: faint"),
    "silent": (telling("", may_eliminate=True), Fate.BAD_OUTPUT, "step 's' may eliminate inputs, and did not tell"),
}


@pytest.mark.req("B40")
@pytest.mark.parametrize("kind", POLICIES)
def test_a_difference_fails_the_step_where_that_is_its_consequence(bench: Bench, kind: str) -> None:
    step, fate, message = POLICIES[kind]
    strict = step.model_copy(update={"differences": {DifferenceKind(kind): Policy.FAIL}})
    report = must_fail(bench, order_of(bench, strict), fate, message)
    assert [then for each, _name, then in kinds(report) if each == kind] == ["failed"]
    assert report.made == ()


def test_a_file_of_another_step_that_was_read_fails_a_strict_one(bench: Bench) -> None:
    strict = dict.fromkeys(DifferenceKind, Policy.FAIL)
    step = shell("s", "cat ../inputs/*", inputs=("a.txt",), differences=strict)
    must_fail(bench, order_of(bench, step), Fate.UNSTAGED_INPUT, "step 's' opened b.txt, which is not an input of it")


@pytest.mark.req("B45", "B46")
def test_what_contributed_and_what_was_left_out_are_told(bench: Bench) -> None:
    lines = '{"used": ["../inputs/a.txt"]}\n{"eliminated": "b.txt", "reason": "trailed\\nbadly"}\n'
    lines += '{"depends": "out.txt", "on": ["a.txt"]}'
    report = bench.run_one(order_of(bench, telling(lines, read="cat ../inputs/* > out.txt")))
    found = observed(report)
    assert (found.told, found.opened, found.used) == (True, ("a.txt", "b.txt"), ("a.txt",))
    assert [(each.name, each.reason) for each in found.eliminated] == [("b.txt", "trailed\ufffdbadly")]
    assert [(each.output, each.inputs) for each in found.depends] == [("out.txt", ("a.txt",))]
    assert kinds(report) == [("eliminated", "b.txt", "noted")]


@pytest.mark.req("B46")
def test_a_step_that_may_eliminate_and_stays_silent_is_warned_of(bench: Bench) -> None:
    report = bench.run_one(order_of(bench, telling("", read="cat ../inputs/* > out.txt", may_eliminate=True)))
    assert kinds(report) == [("silent", "s", "warned")]
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert "== warning: step 's' may eliminate inputs, and did not tell what it used\n" in log


LIES = {
    "another job's": ('{"used": "z.txt"}', "is wrong in line 1: 'z.txt' is not an input of the step"),
    "a path outside": ('{"used": "/etc/passwd"}', "is wrong in line 1: '/etc/passwd' is not an input of the step"),
    "a typing error": ('{"used": "aa.txt"}', "'aa.txt' is not an input of the step (did you mean 'a.txt'?)"),
    "its own output": ('{"used": "out.txt"}', "'out.txt' is not an input of the step"),
    "a number": ('{"used": 7}', "in line 1: used"),
    "both": ('{"used": "a.txt"}\n{"eliminated": "a.txt", "reason": "x"}', "in line 2: a.txt is eliminated here, and"),
    "both, after": ('{"eliminated": "a.txt", "reason": "x"}\n{"used": "a.txt"}', "in line 2: a.txt is used here, and"),
    "no reason": ('{"eliminated": "a.txt"}', "reason: field required"),
    "an empty reason": ('{"eliminated": "a.txt", "reason": ""}', "reason: string should have at least 1"),
    "an output that is none": ('{"depends": "uot.txt", "on": ["a.txt"]}', "'uot.txt' is not a file that it made"),
    "what it did not open": ('{"used": "b.txt"}', "step 's' tells that it used b.txt, and did not open it"),
    "dependence on it": ('{"depends": "out.txt", "on": ["b.txt"]}', "tells that it used b.txt, and"),
    "another file": ('{"get": {"role": "frames", "data_id": {"detector": 1}}, "name": "b.txt"}', "resolved a"),
    "a file that is none": ('{"get": {"role": "frames", "data_id": {"detector": 1}}, "name": "z"}', "frames (det"),
    "a put of none": ('{"put": {"role": "ou"}, "name": "z"}', "'ou' is not an output of the step (did you"),
    "a put elsewhere": ('{"put": {"role": "out"}, "name": "z"}', "out came to z in line 1, and by the plan it"),
}  # fmt: skip


@pytest.mark.req("B48")
@pytest.mark.parametrize("case", LIES)
def test_a_sidecar_that_says_what_is_not_so_fails_the_step(bench: Bench, case: str) -> None:
    line, message = LIES[case]
    must_fail(bench, order_of(bench, telling(line)), Fate.BAD_OUTPUT, message)


@pytest.mark.req("B48")
def test_a_file_of_another_job_of_its_slice_is_not_used_by_this_one(bench: Bench) -> None:
    other = order_of(bench, telling("")).model_copy(update={"inputs": (bench.put("z.txt", b"z", type="text"),)})
    step = shell("other", "cp ../inputs/z.txt out.txt", output("out", "out.txt"), inputs=("z.txt",))
    attempt = other.attempt.model_copy(update={"unit": "exposure=13"})
    other = other.model_copy(update={"steps": (step,), "attempt": attempt, "log_name": "other.log"})
    first, second = bench.run(other, order_of(bench, telling('{"used": ["a.txt", "z.txt"]}')))
    assert first.fate is Fate.PUBLISHED, first.evidence
    assert second.fate is Fate.BAD_OUTPUT
    assert "is wrong in line 1: 'z.txt' is not an input of the step" in second.evidence
    assert {each.name for each in second.published} == {second.order.log_name}


def test_a_file_of_another_step_is_not_used_by_this_one(bench: Bench) -> None:
    step = shell("s", 'cat ../inputs/*; echo \'{"used": "b.txt"}\' > $NIGHTMILL_SIDECAR', inputs=("a.txt",))
    message = "'b.txt' was staged for another step of the job, and is not an input of this one"
    must_fail(bench, order_of(bench, step), Fate.BAD_OUTPUT, message)


@pytest.mark.req("B04", "B48")
@pytest.mark.parametrize("ends", ["exit 0", "echo Traceback; exit 3"])
def test_what_was_asked_for_and_not_staged_fails_the_step(bench: Bench, ends: str) -> None:
    line = '{"get": {"role": "flat", "data_id": {"detector": 7}}, "name": null}'
    step = telling(line)
    step = step.model_copy(update={"argv": ("sh", "-c", f"{step.argv[2]}\n{ends}")})
    message = "step 's' asked for flat (detector=7), which was not staged for it (line 1 of its sidecar; it has frames"
    report = must_fail(bench, order_of(bench, step), Fate.UNSTAGED_INPUT, message)
    assert ("Traceback" in report.evidence) == ("exit 3" in ends)


def test_what_a_failed_step_told_is_kept_as_far_as_it_can_be_read(bench: Bench) -> None:
    step = telling('{"eliminated": "a.txt", "reason": "x"}')
    failing = step.model_copy(update={"argv": ("sh", "-c", f"{step.argv[2]}\nexit 1")})
    report = must_fail(bench, order_of(bench, failing), Fate.STEP_FAILED, "exited with code 1")
    assert kinds(report) == [("never_read", "b.txt", "noted"), ("eliminated", "a.txt", "noted")]
    broken = telling("nonsense")
    failing = broken.model_copy(update={"argv": ("sh", "-c", f"{broken.argv[2]}\nexit 1")})
    report = must_fail(
        bench,
        order_of(bench, failing).model_copy(
            update={"attempt": report.attempt.model_copy(update={"number": 2}), "log_name": "second.log"}
        ),
        Fate.STEP_FAILED,
        "exited with code 1",
    )
    assert not observed(report).told


def test_a_million_lines_are_not_read(bench: Bench) -> None:
    step = telling("", read=READ_A + '; yes \'{"used": "a.txt"}\' | head -1000000 > $NIGHTMILL_SIDECAR')
    must_fail(bench, order_of(bench, step), Fate.BAD_OUTPUT, "is wrong in line 200001: more than 200,000 lines are not")


def test_many_lines_do_not_flood_the_journal(bench: Bench) -> None:
    line = '{"depends": "out.txt", "on": ["a.txt"]}'
    step = telling(line, read=f"{READ_A}; yes '{line}' | head -20000 > $NIGHTMILL_SIDECAR")
    report = bench.run_one(order_of(bench, step).model_copy(update={"log_name": "first.log"}))
    [told] = observed(report).depends
    assert (told.output, told.inputs) == ("out.txt", ("a.txt",))
    line = '{"get": {"role": "frames", "data_id": {"detector": 1}}, "name": "b.txt"}'
    step = telling("", read=f"{READ_A}; yes '{line}' | head -20000 > $NIGHTMILL_SIDECAR")
    order = order_of(bench, step)
    again = order.attempt.model_copy(update={"number": 2})
    order = order.model_copy(update={"attempt": again, "log_name": "second.log"})
    report = must_fail(bench, order, Fate.BAD_OUTPUT, "and 45 differences more")
    assert [kind for kind, _name, _then in kinds(report)].count("misresolved") == 50


@pytest.mark.parametrize("attack", ["chmod u+w ../index.json; echo >> ../index.json", "rm -f ../index.json",
                                    "rm -f ../index.json; ln -s /etc/passwd ../index.json"])  # fmt: skip
def test_an_index_that_a_step_changes_is_noticed(bench: Bench, attack: str) -> None:
    report = must_fail(
        bench, order_of(bench, telling("", read=f"{READ_A}; {attack}")), Fate.BAD_OUTPUT, "../index.json"
    )
    assert "step 's'" in report.evidence


def test_names_with_strange_characters_are_seen_and_told(bench: Bench) -> None:
    names = ("HAWKI.2013-01-08T00:00:00.000.fits", "a%20+b.txt")
    script = (
        f'cat ../inputs/* > out.txt; echo \'{{"used": ["{names[0]}", "../inputs/{names[1]}"]}}\' > $NIGHTMILL_SIDECAR'
    )
    report = bench.run_one(order_of(bench, shell("s", script, OUT, inputs=names), names=names))
    assert (observed(report).opened, observed(report).used) == (names, names), report.evidence


def test_what_nobody_saw_is_not_called_never_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, path: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nightmill.execution.witness._Queue.add", full)
    report = bench.run_one(order_of(bench, telling('{"used": "b.txt"}')))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert (observed(report).witness, observed(report).opened, kinds(report)) == ("", (), [])


def test_a_queue_that_overflows_is_no_witness(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightmill.execution.witness._Queue.events", lambda self: iter([(1, 0x20), (-1, 0x4000)]))
    assert Witness({}).end() == frozenset()
    assert Witness({"a": str(bench.root)}).end() is None


def test_more_files_than_a_queue_holds_are_watched(bench: Bench) -> None:
    folder = bench.root / "many"
    folder.mkdir()
    files = {f"{number}": f"{folder}/{number}" for number in range(9000)}
    for path in files.values():
        Path(path).touch()
    witness = Witness(files)
    for path in files.values():
        Path(path).open().close()
    assert witness.end() == files.keys()


def test_consequences_of_optional_outputs(bench: Bench) -> None:
    maybe: OrderOutput = output("maybe", "maybe.txt", required=False)
    step = shell("s", ":", maybe, differences={DifferenceKind.MISSING: Policy.WARN})
    report = bench.run_one(bench.order(step))
    assert [each.consequence for each in observed(report).differences] == [Consequence.WARNED]
