"""The texts of a step: that every placeholder in them stands for something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final

from nightmill.config.document import Key
from nightmill.errors import guess
from nightmill.files.naming import is_fit
from nightmill.model.dimensions import NAME
from nightmill.model.pipeline import Output, Pipeline, Stage, Step, StepFile, several_of

Problem = tuple[Key, str]
"""The way to a key as people write it, and what is wrong there."""

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]+)(?:\.([^{}]*))?\}")
_WITH_NAME: Final = ("inputs", "outputs", "parameters", "unit", "files")
_OF_FILES: Final = ("inputs", "outputs")
_ALONE: Final = ("python", "pipeline_dir")


def check_texts(step: Step, stage: Stage, pipeline: Pipeline) -> Iterator[Problem]:
    """Yield what is wrong with the texts of a step, and with the files that are written for it."""
    checker = _Checker(step, stage, pipeline)
    for item in step.argv:
        for text in checker.check(item):
            yield ("argv",), text
    for key, texts in (("arguments", step.arguments), ("environment", step.environment)):
        for name, item in texts.items():
            for text in (*checker.check(item), *checker.check_known(item)):
                yield (key, name), text
    for name, file in step.files.items():
        yield from ((("files", name), text) for text in _check_file(name, file))
        for line in file.lines:
            yield from ((("files", name, "lines"), text) for text in checker.check_line(line))
        if file.template:
            yield from ((("files", name), text) for text in checker.check_made(step.inputs))


def _check_file(name: str, file: StepFile) -> Iterator[str]:
    if not is_fit(name):
        yield f"file name {name!r} should have letters, digits and . _ + - alone, and begin with a letter or digit"
    if bool(file.lines) == bool(file.template):
        both = "both lines and a template" if file.lines else "neither lines nor a template"
        yield f"file {name!r} has {both}, and takes one of them"
    path = PurePosixPath(file.template)
    if file.template and (path.is_absolute() or ".." in path.parts or str(path) != file.template):
        yield f"template {file.template!r} should be a path below the pipeline's folder, as templates/{name}"


class _Checker:
    """Checks the placeholders of one step; braces that look like nothing known are text."""

    def __init__(self, step: Step, stage: Stage, pipeline: Pipeline) -> None:
        self.stage = stage
        self.several = several_of(stage)
        self.made: Mapping[str, Output] = {
            role: output for each in stage.steps for role, output in each.outputs.items()
        }
        self.names: Mapping[str, tuple[Sequence[str], str]] = {
            "inputs": (list(step.inputs), "an input of the step"),
            "outputs": (list(step.outputs), "an output of the step"),
            "parameters": (list(pipeline.parameters), "a parameter of the pipeline"),
            "unit": (list(stage.per), "a key of the stage's units (per)"),
            "files": (list(step.files), "a file of the step"),
        }

    def check(self, item: str) -> Iterator[str]:
        """Yield what is wrong with the placeholders of one item."""
        for match in _PLACEHOLDER.finditer(item):
            yield from self._check_one(match)
            role = (match[2] or "").partition(".")[0]
            if match[1] in _OF_FILES and role in self.several and match[0] != item:
                yield f"{item!r}: {role!r} may be several files; give {match[0]} an item of its own"

    def check_known(self, item: str) -> Iterator[str]:
        """Yield what of an item is known too late: the names of files that an earlier step is yet to make."""
        for match in _PLACEHOLDER.finditer(item):
            role = (match[2] or "").partition(".")[0]
            if match[1] == "inputs" and self._is_later(role):
                yield f"{match[0]}: the names of {role!r} are known when it is made; pass it in argv"

    def _is_later(self, role: str) -> bool:
        return role not in self.stage.inputs and role in self.made and self.made[role].later

    def check_line(self, line: str) -> Iterator[str]:
        """Yield what is wrong with the placeholders of a line of a file."""
        roles: list[str] = []
        for match in _PLACEHOLDER.finditer(line):
            if match[1] == "python":
                yield f"{line!r}: {match[0]} is known where the job runs alone; write it into argv"
            yield from self._check_one(match)
            if match[1] in _OF_FILES:
                roles.append((match[2] or "").partition(".")[0])
        several = [role for role in dict.fromkeys(roles) if role in self.several]
        if len(several) > 1:
            yield f"{line!r}: {' and '.join(several)} may be several files each; write a line for each role"
        yield from self.check_made(roles)

    def check_made(self, roles: Sequence[str]) -> Iterator[str]:
        """Yield which of the roles that a file is made of may have files that are not there when it is written."""
        for role in dict.fromkeys(roles):
            output = self.made.get(role)
            if output is not None and role not in self.stage.inputs and not _is_certain(output):
                yield f"{role!r} may not be there, or not whole, and a file is written beforehand; pass it in argv"

    def _check_one(self, match: re.Match[str]) -> Iterator[str]:
        kind, name = match.groups()
        if name is None:
            near = guess(kind, _ALONE)
            if kind not in _ALONE and near:
                yield f"{match[0]} is unknown{near}"
            elif kind in _WITH_NAME:
                yield f"{match[0]} needs a name, as {{{kind}.NAME}}"
            return
        if kind not in self.names:
            near = guess(kind, _WITH_NAME)
            if near:
                yield f"{match[0]} is unknown{near}"
            return
        yield from self._check_name(match, kind, name)

    def _check_name(self, match: re.Match[str], kind: str, name: str) -> Iterator[str]:
        known, what = self.names[kind]
        name, colon, spec = name.partition(":")
        role, dot, key = name.partition(".") if kind in _OF_FILES else (name, "", "")
        if role not in known:
            hint = "; declare it under the step's inputs" if kind == "inputs" and role in self.stage.inputs else ""
            yield f"{match[0]}: {role!r} is not {what}{hint or guess(role, known)}"
        elif dot and not key.isidentifier():
            yield f"{match[0]}: {key!r} cannot be the name of a key"
        elif dot and role in self.made and key in (*self.made[role].tells, *((NAME,) * self._is_later(role))):
            yield f"{match[0]}: {key} of {role!r} is known when it is made"
        elif kind == "outputs" and self._is_later(role):
            yield f"{match[0]}: the step names {role!r} itself, as {self.made[role].produces!r}"
        elif colon:
            yield from self._check_format(match, spec, path=kind == "files" or (kind in _OF_FILES and not dot))

    @staticmethod
    def _check_format(match: re.Match[str], spec: str, *, path: bool) -> Iterator[str]:
        if path:
            yield f"{match[0]}: a path has no format; write a key of the file, as {{inputs.ROLE.exposure:06d}}"
        elif not _is_format(spec):
            yield f"{match[0]}: {spec!r} is not a format, as 06d, .3f or >8"


def _is_format(spec: str) -> bool:
    """Say whether some value can be written so, and in less than a thousand characters."""
    if re.search(r"\d{4}", spec):
        return False
    for value in (0, 0.0, ""):
        with suppress(ValueError):
            format(value, spec)
            return True
    return False


def _is_certain(output: Output) -> bool:
    """Say whether all files that an output may have are there once its step has ended well."""
    return output.required and not output.later and output.max in (1, output.min)
