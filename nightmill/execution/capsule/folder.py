"""What lies where in a capsule, and what its runs left there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from nightmill.errors import ConfigError, RequestRefused, UnknownName
from nightmill.execution.scratch import token
from nightmill.model.layout import BUNDLE, INPUTS, MADE, ORDER, OUTPUTS
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport

RECORDED: Final = "recorded.json"
"""What is on record of the attempt: a report, as runs leave one."""
KEPT: Final = "recorded"
"""Folder of the products that are on record, where the capsule was asked to bring them."""
PRODUCTS: Final = "products"
"""Folder of a run for what it published; the store of the same name in the order of a capsule."""
REPLACED: Final = "replaced"
"""Folder of a run for what it was given in place of files of the capsule."""
REPORT: Final = "report.json"
RUNS: Final = "runs"
SHELLS: Final = "shells"


@dataclass(frozen=True)
class Run:
    """A run of a capsule that came to its end."""

    folder: Path
    report: JobReport
    done: tuple[str, ...]
    """The steps whose outputs passed the gate."""
    made: Mapping[str, tuple[str, ...]]
    """Role to the names of what they made, and of what was taken from other runs."""

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return int(self.folder.name)

    @property
    def outputs(self) -> Path:
        """Where everything lies that passed the gate."""
        return self.folder / "scratch" / token(self.report.attempt) / OUTPUTS


@dataclass(frozen=True)
class Capsule:
    """A capsule that was opened."""

    folder: Path
    order: JobOrder

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a capsule.

        Raises
        ------
        ConfigError
            Where the folder is not a capsule, or its order cannot be read.
        RequestRefused
            Where its path is not UTF-8: orders are.
        """
        folder = folder.resolve()
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise RequestRefused(
                f"the path {str(folder)!r} of the capsule is not UTF-8", remedy="move it to another place"
            ) from None
        path = folder / ORDER
        try:
            return cls(folder, JobOrder.model_validate_json(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(
                f"this is not a capsule: it has no {ORDER}", where=str(folder), remedy="write one: nightmill capsule"
            ) from None
        except OSError as error:
            raise ConfigError(f"it cannot be read: {error.strerror}", where=str(path)) from None
        except ValidationError as error:
            raise _wrong(path, "an order", error) from error

    @property
    def inputs(self) -> Path:
        """Where its inputs lie, under the names that steps see."""
        return self.folder / INPUTS

    @property
    def bundle(self) -> Path:
        """Where the pipeline's folder lies."""
        return self.folder / BUNDLE

    def recorded(self) -> JobReport | None:
        """Return what is on record of the attempt; None where it never ran.

        Raises
        ------
        ConfigError
            Where that cannot be read.
        """
        path = self.folder / RECORDED
        return _report(path) if path.exists() else None

    def runs(self) -> Iterator[Run]:
        """Yield its runs, the newest first; those that did not come to an end are left out."""
        numbers = [int(path.name) for path in (self.folder / RUNS).glob("*") if re.fullmatch("[1-9][0-9]*", path.name)]
        for number in sorted(numbers, reverse=True):
            folder = self.folder / RUNS / str(number)
            if (folder / REPORT).exists():
                yield self._run(folder)

    def run(self, number: int | None = None) -> Run:
        """Return one of its runs.

        Parameters
        ----------
        number
            By default that of the newest.

        Raises
        ------
        RequestRefused
            Where there is none yet.
        UnknownName
            Where there is none of that number.
        """
        newest = next(self.runs(), None)
        if newest is None:
            raise RequestRefused(f"the capsule {self.folder} was not run yet", remedy=f"run it: {self.folder}/run")
        if number is None or newest.number == number:
            return newest
        for run in self.runs():
            if run.number == number:
                return run
        raise UnknownName("run", str(number), [str(run.number) for run in self.runs()])

    def new(self, kind: str) -> Path:
        """Make the folder of a new run, or of a new shell, with the next number that nobody has taken."""
        above = self.folder / kind
        try:
            above.mkdir(exist_ok=True)
            for number in count(1):
                folder = above / str(number)
                try:
                    folder.mkdir()
                except FileExistsError:
                    continue
                return folder
        except OSError as error:
            raise unwritable(self.folder, error) from error
        raise AssertionError

    def _run(self, folder: Path) -> Run:
        report = _report(folder / REPORT)
        made = folder / "scratch" / token(report.attempt) / MADE
        try:
            told = json.loads(made.read_bytes())
            names = {str(role): tuple([_name(name) for name in each]) for role, each in told["made"].items()}
            return Run(folder, report, tuple([str(step) for step in told["steps"]]), names)
        except (FileNotFoundError, NotADirectoryError):  # somebody removed its scratch, to make room
            return Run(folder, report, (), {})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                "it does not say what was made", where=str(made), remedy=f"remove {folder}, and run it again"
            ) from error


def unwritable(folder: Path, error: OSError) -> RequestRefused:
    """Say that a capsule cannot be written to."""
    return RequestRefused(
        f"the capsule {folder} cannot be written to: {error.strerror}",
        remedy="copy it to a place where you may write, and where there is room",
    )


def _name(text: object) -> str:
    if not isinstance(text, str) or text in ("", ".", "..") or "/" in text or "\0" in text:
        raise ValueError(text)
    return text


def _report(path: Path) -> JobReport:
    try:
        return JobReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        raise _wrong(path, "a report", error) from error


def _wrong(path: Path, what: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    return ConfigError(f"this is not {what}: {key}: {first['msg']}", where=str(path), remedy="write the capsule anew")
