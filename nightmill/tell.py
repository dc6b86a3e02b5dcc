"""Ask and tell, for the program of a step: which files it was given, what it used of them, and what it made.

    from nightmill import tell

    flat = tell.get("flat", detector=3)
    frames = tell.all("frames")
    tell.used(flat, frames[0])
    tell.eliminated(frames[1], "trailed")

This file needs Python 3.8 and nothing else: copy it beside a script, or into an image, where nightmill is not installed
(``import tell``). It asks the index that stands in the scratch of the job, and tells the sidecar beside it. It reaches
neither a network nor a database, and fetches nothing. Outside of a job there is nothing to ask, and what is told is
dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Union

File = Union[str, "os.PathLike[str]"]
"""A path, or one of the names of a file."""

_NAMES_A_LINE = 100
_LISTED = 10


class NotStaged(LookupError):
    """An input was asked for that the step was not given: the step fails, whether or not its program goes on.

    Parameters
    ----------
    role, data_id
        What was asked for.
    there
        What the step was given, in words.
    """

    def __init__(self, role: str, data_id: Mapping[str, Any], there: str) -> None:
        self.role = role
        self.data_id = dict(data_id)
        super().__init__(f"{_called(role, data_id)} was not staged for this step; it was given {there}")


class SeveralStaged(LookupError):
    """One input was asked for, and several are there."""


class NotInJob(RuntimeError):
    """The program asks for its files, and is not run as the step of a job."""

    def __init__(self) -> None:
        super().__init__("NIGHTMILL_INDEX is not set: this program is not run as the step of a job, and has no index")


def index() -> dict[str, Any]:
    """Return the index: every file that the step was given, and every output that it is to make.

    Raises
    ------
    NotInJob
        Where the program is not run as a step.
    """
    path = os.environ.get("NIGHTMILL_INDEX")
    if not path:
        raise NotInJob
    return _read(path)


def get(role: str, **data_id: Any) -> str:
    """Return the path of the input of a role, and of a data ID where that is given.

    Raises
    ------
    NotStaged
        Where the step was not given one. The step fails then.
    SeveralStaged
        Where several fit.
    NotInJob
        Where the program is not run as a step.
    """
    found = _matching(role, data_id)
    if not found:
        _asked("get", role, data_id, None)
        raise NotStaged(role, data_id, _there())
    if len(found) > 1:
        names = ", ".join(file["name"] for file in found[:_LISTED])
        raise SeveralStaged(f"{_called(role, data_id)} is {len(found)} files ({names}): say more keys, or take all()")
    _asked("get", role, data_id, found[0]["name"])
    return _path(found[0]["path"])


def all(role: str, **data_id: Any) -> list[str]:
    """Return the paths of every input of a role, and of a data ID where that is given; it may be none.

    Raises
    ------
    NotInJob
        Where the program is not run as a step.
    """
    found = _matching(role, data_id)
    for file in found:
        _asked("get", role, file["data_id"], file["name"])
    return [_path(file["path"]) for file in found]


def put(role: str, **data_id: Any) -> str:
    """Return the path under which to write an output.

    Raises
    ------
    LookupError
        Where the step has no such output, or a data ID lacks a key of the name.
    ValueError
        Where the program chooses the name itself.
    NotInJob
        Where the program is not run as a step.
    """
    outputs = {output["role"]: output for output in index()["outputs"]}
    if role not in outputs:
        raise LookupError(f"{role!r} is not an output of this step; it has {', '.join(outputs) or 'none'}")
    output = outputs[role]
    name = output["name"]
    if not name:
        if "{" not in output["produces"]:
            raise ValueError(f"the names of {role} are for the program to choose: any that fits {output['produces']!r}")
        try:
            name = output["produces"].format_map({**output["data_id"], **data_id})
        except KeyError as error:
            raise LookupError(f"the name of {role} is {output['produces']!r}: say its {error.args[0]}") from None
    _asked("put", role, data_id, name)
    return _path(name)


def used(*files: File) -> None:
    """Tell that inputs contributed to what the step makes; without any, that none did."""
    names = [_said(file) for file in files]
    for first in range(0, len(names) or 1, _NAMES_A_LINE):
        _tell({"used": names[first : first + _NAMES_A_LINE]})


def eliminated(file: File, reason: str) -> None:
    """Tell that an input was left out, and why."""
    _tell({"eliminated": _said(file), "reason": reason})


def depends(output: File, *inputs: File) -> None:
    """Tell which inputs an output was made of, all of which are used.

    Parameters
    ----------
    output
        The path of its file, or its name.
    """
    _tell({"depends": os.path.basename(os.fspath(output)), "on": [_said(file) for file in inputs]})


def about(
    output: str,
    file: File,
    data_id: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Tell what the file of an output is, as far as neither its header nor its name says it.

    Parameters
    ----------
    output
        Its role.
    data_id
        Keys that the output tells, with their values.
    metadata
        Keys that its type has, with their values.
    """
    name = os.path.basename(os.fspath(file))
    _tell({"output": output, "file": name, "data_id": dict(data_id or {}), "metadata": dict(metadata or {})})


@lru_cache(maxsize=1)
def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def _matching(role: str, data_id: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = data_id.items()
    return [file for file in index()["inputs"] if role in file["roles"] and wanted <= file["data_id"].items()]


def _path(path: str) -> str:
    """Return the absolute path of what is named from the working folder, wherever the program has gone."""
    return os.path.normpath(os.path.join(os.path.dirname(os.environ["NIGHTMILL_INDEX"]), "work", path))


def _said(file: File) -> str:
    """Return what the sidecar is told of an input: a name as it is, a path from the root."""
    text = os.fspath(file)
    return os.path.abspath(text) if os.sep in text or os.path.exists(text) else text


def _called(role: str, data_id: Mapping[str, Any]) -> str:
    keys = ", ".join(f"{key}={value}" for key, value in data_id.items())
    return f"{role} ({keys})" if keys else role


def _there() -> str:
    files = index()["inputs"]
    named = [f"{_called(file['roles'][0], file['data_id'])}: {file['name']}" for file in files[:_LISTED]]
    more = f"; and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    return "; ".join(named) + more if files else "no inputs"


def _asked(what: str, role: str, data_id: Mapping[str, Any], name: str | None) -> None:
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    _tell({what: {"role": role, "data_id": dict(data_id)}, "name": name, "at": at, "step": index()["step"]})


def _tell(line: Mapping[str, Any]) -> None:
    """Append a line in one write: those of several threads and processes do not mix."""
    path = os.environ.get("NIGHTMILL_SIDECAR")
    if not path:
        return
    data = (json.dumps(line, separators=(",", ":"), allow_nan=False, default=_plain) + "\n").encode("ascii")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path} has no room for a line")
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """Return a scalar of an array library as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} is not a value that a data ID or metadata can have")
