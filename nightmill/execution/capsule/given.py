"""What a person gives a run in place of files of the capsule: loose files, wherever they lie and whatever they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.order import JobOrder, OrderInput, OrderOutput, OrderStep, later_names


@dataclass(frozen=True)
class Given:
    """Files that take the place of others.

    Parameters
    ----------
    inputs
        By the names of inputs.
    outputs
        By the roles of outputs of steps that are not run.
    passed_over
        Files of a folder whose names nobody asks for.
    """

    inputs: Mapping[str, Path] = field(default_factory=dict)
    outputs: Mapping[str, Path] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()


def wanted_outputs(order: JobOrder, only: Collection[str] | None) -> list[tuple[OrderStep, OrderOutput]]:
    """Return the outputs of steps that are not run which those that are run read, in the order of the steps."""
    if only is None:
        return []
    read = {name for step in order.steps if step.name in only for name in step.inputs}
    return [
        (step, output)
        for step in order.steps
        if step.name not in only
        for output in step.outputs
        if read & {*output.names, later_names(output.role)}
    ]


def chosen_steps(order: JobOrder, names: Sequence[str]) -> tuple[str, ...]:
    """Return the steps of an order that were named, in its order.

    Raises
    ------
    UnknownName
        Where it has no such step.
    """
    known = [step.name for step in order.steps]
    for name in names:
        if name not in known:
            raise UnknownName("step", name, known, remedy=f"the job has {', '.join(known)}")
    return tuple([name for name in known if name in names])


def given_files(order: JobOrder, only: Collection[str] | None, words: Sequence[str], folder: Path | None) -> Given:
    """Find for what each given file stands.

    Parameters
    ----------
    only
        The steps that are run; None for all.
    words
        ``ROLE=PATH`` where one file fills the role, or ``NAME=PATH``; they go over what the folder has.
    folder
        A folder with files of the names of inputs, as they are registered or as steps see them.

    Raises
    ------
    RequestRefused
        Where a word is not of that form, a role has several files, a file is not there or is not a regular file, or
        nothing in the folder has the name of an input.
    UnknownName
        Where there is no such role or name; with a guess.
    """
    inputs, passed_over = _in_folder(order, folder) if folder is not None else ({}, ())
    outputs: dict[str, Path] = {}
    later = {output.role: output for _step, output in wanted_outputs(order, only)}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key or not text:
            raise RequestRefused(f"--input {word!r} is not of the form ROLE=PATH", remedy="write --input frame=my.fits")
        path = Path(text)
        _must_be_file(path)
        named = [file for file in order.inputs if key in (file.name, file.staged_name)]
        filling = [file for file in order.inputs if key in file.roles]
        if named:
            inputs[named[0].name] = path
        elif filling:
            inputs[_the_one(key, filling).name] = path
        elif key in later:
            outputs[key] = path
            if not later[key].names:
                _must_be_named(path)
        else:
            raise _unknown(order, key, list(later))
    return Given(inputs, outputs, passed_over)


def _in_folder(order: JobOrder, folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the files of a folder that have names of inputs, and the names of its others."""
    try:
        there = {path.name: path for path in sorted(folder.iterdir())}
    except OSError as error:
        raise RequestRefused(f"--inputs {folder} cannot be read: {error.strerror}") from error
    found = {file.name: path for file in order.inputs for path in _called(file, there)}
    if not found:
        names = ", ".join(file.name for file in order.inputs) or "none"
        raise RequestRefused(
            f"nothing in {folder} has the name of an input of the job", remedy=f"its inputs are called: {names}"
        )
    for path in found.values():
        _must_be_file(path)
    return found, tuple([name for name, path in there.items() if path not in found.values()])


def _called(file: OrderInput, there: Mapping[str, Path]) -> Iterator[Path]:
    names = [name for name in (file.name, file.staged_name) if name in there]
    yield from [there[name] for name in names[:1]]


def _the_one(role: str, filling: Sequence[OrderInput]) -> OrderInput:
    if len(filling) > 1:
        names = ", ".join(file.name for file in filling)
        raise RequestRefused(
            f"input {role!r} has {len(filling)} files: {names}", remedy="say which: NAME=PATH, or give --inputs FOLDER"
        )
    return filling[0]


def _must_be_file(path: Path) -> None:
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "is not there"
        raise RequestRefused(f"{path} {what}, and was given as an input", remedy="give the path of a file")


def _must_be_named(path: Path) -> None:
    """See that a file whose own name is used has one that an order can have."""
    if not path.name.isprintable():
        raise RequestRefused(
            f"{path.name!r} is not fit for the name of a file of a step: it has characters that are not text",
            remedy="give it another name",
        )


def _unknown(order: JobOrder, key: str, later: Sequence[str]) -> RequestRefused:
    made = {output.role: step.name for step in order.steps for output in step.outputs}
    if key in made:
        return RequestRefused(
            f"{key!r} is what step {made[key]!r} makes, and no step that is run reads it from elsewhere",
            remedy="name with --steps those that are to read it",
        )
    known = [*dict.fromkeys([name for file in order.inputs for name in (*file.roles, file.name)]), *later]
    remedy = "what the job was not planned to read stands in none of its commands: plan it anew, in a campaign"
    return UnknownName("input", key, known, remedy=remedy)
