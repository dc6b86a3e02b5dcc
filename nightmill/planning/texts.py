"""What the texts of a step stand for: its placeholders filled in for one job, and the files that it is written.

A text may hold ``{inputs.ROLE}``, ``{inputs.ROLE.KEY}``, the same of outputs, ``{parameters.NAME}``, ``{unit.KEY}``,
``{files.NAME}`` and ``{pipeline_dir}``; what looks like nothing of these is text. Values may have a format, as in
``{unit.exposure:06d}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from nightmill.errors import BadText
from nightmill.model.dimensions import NAME, DataId, KeyValue
from nightmill.model.exclusion import EXCLUDED
from nightmill.model.layout import FILES, seen
from nightmill.model.order import OrderText
from nightmill.model.pipeline import Parameter, Stage, Step, StepFile

if TYPE_CHECKING:
    import jinja2

PLACEHOLDER: Final = re.compile(
    r"\{(?:(inputs|outputs|parameters|unit)\.([A-Za-z0-9_-]+)(?:\.([A-Za-z_]\w*))?(?::([^{}]*))?"
    r"|(files)\.([A-Za-z0-9_+-][A-Za-z0-9._+-]*)|(pipeline_dir))\}"
)


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as a step sees it; as a text, its path.

    Parameters
    ----------
    path
        By which the step reaches it.
    known
        Gives the value of a key; None where it is not known.
    excluded
        Parts of it that must not be used; as a text, with a comma between two.
    """

    path: str
    name: str
    type: str
    known: Callable[[str], KeyValue | None]
    excluded: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.path

    def __getitem__(self, key: str) -> KeyValue:
        """Return the value of a key.

        Raises
        ------
        BadText
            Where it has none.
        """
        if key == EXCLUDED:
            return ",".join(self.excluded)
        value = self.name if key == NAME else self.known(key)
        if value is None:
            raise BadText(f"{self.name} has no {key}")
        return value


Roles = Mapping[str, Sequence[SeenFile]]


@dataclass(frozen=True)
class Texts:
    """Fills in the texts of one step of one job.

    Parameters
    ----------
    inputs, outputs
        The files of each role that the step reads and makes.
    several
        Roles that may have more files than one.
    pipeline_dir
        The path by which the step reaches the bundle.
    """

    inputs: Roles
    outputs: Roles
    several: frozenset[str]
    parameters: Mapping[str, Parameter]
    unit: DataId
    pipeline_dir: str

    def items(self, text: str) -> Iterator[str]:
        """Yield what an item of a command line becomes: an item a file where it is nothing but a role; else one.

        Nothing where an optional input that it names has no file.

        Raises
        ------
        BadText
            Where a file has no value of a key that is asked.
        """
        whole = PLACEHOLDER.fullmatch(text)
        if whole is not None and (found := self._of_role(whole)) is not None:
            yield from found
        elif (filled := self.fill(text)) is not None:
            yield filled

    def fill(self, text: str, one: tuple[str, int] = ("", 0)) -> str | None:
        """Fill in a text; None where it names an optional input that has no file.

        Parameters
        ----------
        one
            The role, and the place among its files, of the file that it is about; of other roles, it is the first.

        Raises
        ------
        BadText
            As :meth:`items`.
        """
        missing = False

        def meaning(match: re.Match[str]) -> str:
            nonlocal missing
            found = self._of_role(match)
            if found is None:
                return _formatted(self._value(match), match)
            place = one[1] if match[2] == one[0] else 0
            if not found:
                missing = True
                return ""
            return found[place]

        filled = PLACEHOLDER.sub(meaning, text)
        return None if missing else filled

    def argument(self, text: str) -> object:
        """Give an argument of a call its value: a list where a role may have several files, else one value."""
        whole = PLACEHOLDER.fullmatch(text)
        if whole is None:
            return self.fill(text)
        found = self._of_role(whole)
        if found is None:
            return _formatted(self._value(whole), whole) if whole[4] else self._value(whole)
        if whole[2] in self.several:
            return found
        return found[0] if found else None

    def write(self, files: Mapping[str, StepFile], templates: Mapping[str, str]) -> Iterator[OrderText]:
        """Yield the files that are written for the step.

        Parameters
        ----------
        templates
            Their texts by their paths in the bundle.

        Raises
        ------
        BadText
            Where a file has no value of a key that is asked, or a template cannot be filled in.
        """
        for name, file in files.items():
            try:
                if file.template:
                    text = self._rendered(file.template, templates[file.template], files)
                else:
                    text = "".join([f"{line}\n" for written in file.lines for line in self._lines(written)])
            except BadText as error:
                raise BadText(f"file {name!r}: {error.message}", remedy=error.remedy) from error
            yield OrderText(name=name, text=text)

    def _lines(self, line: str) -> Iterator[str]:
        """Yield a line for each file of the role in it that may have several; one where none may."""
        roles = [match[2] for match in PLACEHOLDER.finditer(line) if match[1] in ("inputs", "outputs")]
        role = next((role for role in roles if role in self.several), "")
        count = len({**self.inputs, **self.outputs}[role]) if role else 1
        for place in range(count):
            if (filled := self.fill(line, (role, place))) is not None:
                yield filled

    def _rendered(self, path: str, text: str, files: Mapping[str, StepFile]) -> str:
        import jinja2  # a twentieth of a second, for pipelines that have templates

        def of(roles: Roles) -> dict[str, object]:
            return {
                role: list(found) if role in self.several else (found[0] if found else None)
                for role, found in roles.items()
            }

        context: dict[str, Any] = {
            "inputs": of(self.inputs),
            "outputs": of(self.outputs),
            "parameters": dict(self.parameters),
            "unit": dict(self.unit),
            "files": {name: seen(FILES, name) for name in files},
            "pipeline_dir": self.pipeline_dir,
        }
        try:
            return _template(text).render(context)
        except jinja2.TemplateError as error:
            line = f":{error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
            raise BadText(f"template {path}{line} cannot be filled in: {error.message}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise BadText(f"template {path} cannot be filled in: {error}") from error

    def _of_role(self, match: re.Match[str]) -> list[str] | None:
        """Return what a placeholder of a role stands for, a text a file; None for one of anything else."""
        kind, role, key = match[1], match[2], match[3]
        if kind not in ("inputs", "outputs"):
            return None
        found = (self.inputs if kind == "inputs" else self.outputs)[role]
        return [_formatted(file[key], match, file.name) if key else file.path for file in found]

    def _value(self, match: re.Match[str]) -> Parameter:
        if match[5]:
            return seen(FILES, match[6])
        if match[7]:
            return self.pipeline_dir
        return self.parameters[match[2]] if match[1] == "parameters" else self.unit[match[2]]


def asked_keys(step: Step) -> list[str]:
    """Return the keys of files that the texts of a step ask for; what its templates ask is not known.

    The parts that are excluded are known of every file.
    """
    lines = [line for file in step.files.values() for line in file.lines]
    texts = (*step.argv, *step.arguments.values(), *step.environment.values(), *lines)
    return [match[3] for text in texts for match in PLACEHOLDER.finditer(text) if match[3] not in (None, EXCLUDED)]


def asks_of_files(stage: Stage) -> bool:
    """Say whether texts of a stage ask for more of its files than their paths, so that they may lack it."""
    if any(declared.staged_as for declared in stage.inputs.values()):
        return True
    return any(asked_keys(step) or any(file.template for file in step.files.values()) for step in stage.steps)


@lru_cache(maxsize=64)
def _template(text: str) -> jinja2.Template:
    """Compile a template, once for all jobs."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(text)


def _finalized(value: object) -> object:
    """Write what a template puts out as an order does; what is not there is not a text."""
    if value is None:
        raise BadText("it puts out what is not there: ask with 'if' first")
    return as_text(value) if isinstance(value, bool) else value


def _formatted(value: Parameter, match: re.Match[str], of: str = "") -> str:
    """Write a value as the format of its placeholder says, if it has one.

    Raises
    ------
    BadText
        Where the format is not one of such a value.
    """
    if not match[4]:
        return as_text(value)
    try:
        return format(value, match[4])
    except ValueError as error:
        told = f"{of} has {value!r}" if of else f"the value is {value!r}"
        raise BadText(f"{match[0]}: {told}, which cannot be written so ({error})", remedy="mend the format") from error


def as_text(value: Parameter | None) -> str:
    """Write a value as an item of a command line: booleans as in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)
