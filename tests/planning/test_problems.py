from __future__ import annotations

from nightmill.planning.problems import EXAMPLES, REASONS, Problems


def test_ten_thousand_equal_problems_are_one_sentence() -> None:
    problems = Problems()
    for exposure in range(10_000):
        problems.add("stage 'science', input 'bias'", "no bias", f"exposure={exposure}")
    assert problems.sentences() == [
        "stage 'science', input 'bias': no bias: 10,000 units, as exposure=0; exposure=1; exposure=2; ..."
    ]


def test_each_example_may_have_what_is_true_of_it_alone() -> None:
    problems = Problems()
    problems.add("stage 'science'", "no bias within 30 d", "exposure=1", detail="the nearest is 41.2 d before")
    assert problems.sentences() == [
        "stage 'science': no bias within 30 d: unit exposure=1 (the nearest is 41.2 d before)"
    ]
    problems.add("stage 'science'", "no bias within 30 d", "exposure=2", detail="the nearest is 41.3 d before")
    assert problems.sentences() == [
        "stage 'science': no bias within 30 d: 2 units, as exposure=1 (the nearest is 41.2 d before);"
        " exposure=2 (the nearest is 41.3 d before)"
    ]


def test_different_problems_are_all_told() -> None:
    problems = Problems()
    problems.add("stage 'a'", "no file type named 'x'")
    problems.add("stage 'b'", "no file type named 'x'")
    problems.add("stage 'a'", "no dimension named 'y'")
    assert problems.sentences() == [
        "stage 'a': no file type named 'x'",
        "stage 'a': no dimension named 'y'",
        "stage 'b': no file type named 'x'",
    ]


def test_many_reasons_of_one_kind_are_counted_at_the_end() -> None:
    problems = Problems()
    for number in range(REASONS + 5):
        problems.add("stage 'a'", f"reason {number}", f"u{number}")
    sentences = problems.sentences()
    assert len(sentences) == REASONS + 1
    assert sentences[-1] == "stage 'a': 5 more units with problems of the same kind"


def test_no_problem_is_false() -> None:
    problems = Problems()
    assert not problems
    assert EXAMPLES < REASONS
    problems.add("a", "b")
    assert problems
