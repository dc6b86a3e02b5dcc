"""Names by which a job finds its inputs: those of the catalogue, or what ``staged_as`` makes of the keys of a file."""

from __future__ import annotations

from collections.abc import Iterable

from nightmill.errors import BadName, BadText
from nightmill.files.naming import STEM, Template, key_of, stem_of
from nightmill.model.found_file import FoundFile
from nightmill.model.pipeline import Stage, staged_roles
from nightmill.planning.outputs import template
from nightmill.planning.sealed import Choice


class StagedNames:
    """The names of the files of one job that its stage stages under other names than those of the catalogue.

    Parameters
    ----------
    choices
        What fills each role of the job.

    Raises
    ------
    BadText
        Where a file has no value of a key that is asked, or one that is not fit for a name; where two files get one
        name, or a file that fills two roles gets two.
    """

    def __init__(self, stage: Stage, choices: Iterable[Choice]) -> None:
        self._names: dict[int, str] = {}
        asked = {role: declared.staged_as for role, declared in stage.inputs.items() if declared.staged_as}
        if not asked:
            return
        staged, files = staged_roles(stage), list[FoundFile]()
        for role, _rule, chosen in choices:
            if role in staged:
                files += chosen
                for file in chosen if role in asked else ():
                    self._name(role, file, _filled(role, template(asked[role]), file))
        self._must_differ(files)

    def __getitem__(self, file: FoundFile) -> str:
        """Return the name of a file in the scratch of the job."""
        return self._names.get(file.id, file.name)

    def other_than(self, file: FoundFile) -> str:
        """Return the name of a file in the scratch, where that is not its own; else an empty text."""
        name = self._names.get(file.id, "")
        return "" if name == file.name else name

    def _name(self, role: str, file: FoundFile, name: str) -> None:
        other = self._names.setdefault(file.id, name)
        if other != name:
            raise BadText(
                f"input {role!r}: {file.name} is staged as {name}, and for another role as {other}",
                remedy="give both inputs one 'staged_as'",
            )

    def _must_differ(self, files: Iterable[FoundFile]) -> None:
        seen: dict[str, FoundFile] = {}
        for file in files:
            other = seen.setdefault(self[file], file)
            if other.id != file.id:
                raise BadText(
                    f"{other.name} and {file.name} are both staged as {self[file]}",
                    remedy="put a key into 'staged_as' that tells them apart",
                )


def _filled(role: str, name: Template, file: FoundFile) -> str:
    values = {each: stem_of(file.name) if each == STEM else file.get(key_of(each)) for each in name.fields}
    lacking = [each for each, value in values.items() if value is None or value == ""]
    if lacking:
        raise BadText(f"input {role!r}: {file.name} has no {' and no '.join(lacking)}, which 'staged_as' asks for")
    try:
        return name.render(values)
    except BadName as error:
        raise BadText(f"input {role!r}: {file.name} cannot be staged as {name.text}: {error.message}") from error
