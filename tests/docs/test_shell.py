"""What follows the pages can itself be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.docs.shell import Shell, lacking, normal

PAGE = """# Page

```yaml file=a/b.yaml
x: 1
```

```console
$ cd a
$ export GREETING="hello \\
there"
$ cat b.yaml
x: 1
```

## Later

```console
$ echo $GREETING && (exit 3)  # exit code 3
hello there
```
"""


def page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(text)
    return Page(path)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    (tmp_path / "home").mkdir()
    return Shell(tmp_path / "home")


def test_folder_and_variables_last_from_command_to_command(shell: Shell, tmp_path: Path) -> None:
    shell.follow(page(tmp_path, PAGE))
    assert shell.folder == tmp_path / "home" / "a"
    assert (shell.folder / "b.yaml").read_text() == "x: 1\n"


def test_page_can_be_followed_in_parts(shell: Shell, tmp_path: Path) -> None:
    whole = page(tmp_path, PAGE)
    shell.follow(whole, until="## Later")
    assert shell.run("echo $GREETING").stdout == "hello there\n"
    shell.follow(whole, after="## Later")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("(exit 3)", "(exit 4)"), "exit code 4\nhello there"),
        (("x: 1\n```\n\n## Later", "x: 2\n```\n\n## Later"), "the page shows a line that did not come: x: 2"),
    ],
)
def test_wrong_page_is_told(shell: Shell, tmp_path: Path, wrong: tuple[str, str], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        shell.follow(page(tmp_path, PAGE.replace(*wrong)))


def test_lines_must_come_in_their_order() -> None:
    assert lacking(("b", "...", "c"), "a\nb\nc\n") is None
    assert lacking(("c", "b"), "a\nb\nc\n") == "b"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("at 2026-01-10T03:04:05.678Z", "at 2027-02-11 04:05:06"),
        ("http://127.0.0.1:4200/x", "http://127.0.0.1:51234/x"),
        ("took 0.51 s, 67 MB", "took 12 s, 9 MB"),
        ("│ science │ 3 │", "science   3"),
    ],
)
def test_what_differs_from_run_to_run_is_not_compared(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), [("3 jobs", "4 jobs"), ("night 20260110", "night 20260111")])
def test_what_counts_is_compared(one: str, other: str) -> None:
    assert normal(one) != normal(other)
