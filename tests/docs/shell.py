"""Types what a page of the documentation shows, and compares what comes back.

Two kinds of blocks are carried out, in the order of the page, in one folder:

``console``
    Lines with ``$`` in front are commands (a backslash at the end goes on with the next line). Each must end with exit
    code 0, or with the one that its comment ``# exit code 1`` names. The lines below a command must come in its output,
    in this order, each as a part of a line: a terminal leaves out what the line above says already. ``...`` stands for
    any. What differs from run to run (times, amounts, addresses, digests, users) is not compared.
``LANGUAGE file=PATH``
    The content of a file, which is written.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import Fence, Page
from tests.support.prefect_database import give

COMMAND_SECONDS = 1800


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    text: str
    output: tuple[str, ...]
    """The lines that are shown below it."""

    @property
    def exit_code(self) -> int:
        """The exit code that it is to have."""
        match = re.search(r"# exit code (\d+)$", self.text)
        return int(match[1]) if match else 0


def commands(fence: Fence) -> Iterator[Command]:
    """Yield the commands of a console block."""
    text, goes_on = "", False
    output: list[str] = []
    for line in fence.text.splitlines():
        if goes_on:
            text, goes_on = f"{text}\n{line}", line.endswith("\\")
        elif line.startswith("$ "):
            if text:
                yield Command(text, tuple(output))
            text, output, goes_on = line[2:], [], line.endswith("\\")
        else:
            output.append(line)
    yield Command(text, tuple(output))


_CHANGING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "TIME"),
    (r"\b\d{8}T\d{12,}-\S+", "JOURNAL"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"/sign-in#[\w-]+", "SIGN-IN"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID"),
    (r"\b(?=[0-9]*[a-f])[0-9a-f]{8,64}\b", "DIGEST"),
    (r"\b\d+(\.\d+)? (s|ms|MB|kB|GB)\b", "AMOUNT"),
    (r"\bpid \d+", "PID"),
    (r"\bby [\w.-]+:", "by WHO:"),
    (r"[─━│┃┏┓┗┛├┤┬┴┼╷╵╶╴╭╮╰╯]+", " "),
)


def normal(line: str) -> str:
    """Return a line without what differs from run to run."""
    for pattern, word in _CHANGING:
        line = re.sub(pattern, word, line)
    return " ".join(line.split())


def lacking(shown: tuple[str, ...], said: str) -> str | None:
    """Return the first line that is shown and did not come, in its place; None where all did."""
    lines = iter([normal(line) for line in said.splitlines()])
    wanted = [line for line in shown if normal(line) not in ("", "...")]
    return next((line for line in wanted if not any(normal(line) in each for each in lines)), None)


@dataclass
class Shell:
    """A shell that keeps its folder and its variables from one command to the next.

    Parameters
    ----------
    home
        An empty folder: its HOME, and where it begins.
    environment
        Variables beside those that every test has.
    """

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prefect: Path | None = None
    """What the server of a site begins with, see :mod:`tests.support.prefect_database`."""
    warm: Path | None = None
    """The folder of the ``nightmill`` that it takes rather than the installed one, see :mod:`tests.support.warm`."""

    def __post_init__(self) -> None:
        programs = Path(sys.executable).parent
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
        path = ":".join(str(each) for each in (self.warm, programs, kept["PATH"]) if each)
        own = {"HOME": str(self.home), "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"}
        self.environment = kept | own | dict(self.environment)
        self.state = self.home / ".state"
        self.state.write_text(f"cd {shlex.quote(str(self.home))}\n")

    @property
    def folder(self) -> Path:
        """Where it is."""
        return Path(self.run("pwd").stdout.strip())

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a command; stdout has stderr, too."""
        if self.prefect is not None and "server start" in text:
            for site in self.home.rglob("nightmill.yaml"):
                give(site.parent, self.prefect)
        script = f"source {self.state}\n{text}\nCODE=$?\n{{ echo cd $PWD; export -p; }} > {self.state}\nexit $CODE"
        return subprocess.run(
            ["bash", "-c", script],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def follow(self, page: Page, *, until: str = "", after: str = "") -> None:
        """Do what a page says, from one line on (or its beginning) to another (or its end).

        Raises
        ------
        AssertionError
            Where a command ends otherwise than the page says.
        """
        first = page.text[: page.text.index(after)].count("\n") if after else 0
        last = page.text[: page.text.index(until)].count("\n") if until else len(page.text)
        for fence in page.fences:
            if first < fence.line <= last:
                self._follow(page, fence)

    def _follow(self, page: Page, fence: Fence) -> None:
        language, _, file = fence.info.partition(" file=")
        if file:
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fence.text)
        elif language == "console":
            for command in commands(fence):
                place = f"{page.name}:{fence.line}: $ {command.text}"
                done = self.run(command.text)
                told = f"{place}\nexit code {done.returncode}\n{done.stdout}"
                assert done.returncode == command.exit_code, told
                missing = lacking(command.output, done.stdout)
                assert missing is None, f"{told}\nthe page shows a line that did not come: {missing}"


def stop_servers(shell: Shell) -> None:
    """Leave no server running, whatever happened."""
    for site in shell.home.rglob("nightmill.yaml"):
        if (site.parent / ".nightmill" / "runners").exists():
            shell.run(f"nightmill runner stop --site {site.parent}")
        if (site.parent / ".nightmill").exists():
            shell.run(f"nightmill server stop --site {site.parent}")
