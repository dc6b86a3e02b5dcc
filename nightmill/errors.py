"""The errors of nightmill: one tree.

::

    NightmillError
    ├── RequestRefused        the request cannot be carried out as it stands; nothing was done        exit code 2
    │   ├── ConfigError           a YAML file or an override is wrong (file, line, key)
    │   │   └── ConfigErrors          several of them, in one document
    │   ├── ExpressionError       a ``where`` expression is wrong (column of the text)
    │   ├── PlanRefused           a plan has problems; all of them are listed
    │   ├── PlanDiffers           a plan is not what was seen of it; what differs is listed
    │   ├── UnknownName           a campaign, job, file or store that does not exist (with a guess)
    │   ├── BadName               a file name cannot be made, or is not fit to be one
    │   ├── BadText               a text of a step cannot be filled in
    │   ├── BadPlugin             an installed plug-in cannot be used, or breaks what it promises
    │   ├── NameTaken             names that are to be registered stand in the catalogue already
    │   └── OrderChanged          what is kept of an attempt does not give its order
    ├── FileRefused           one file cannot be taken in; the others go on
    │   ├── BadFile               its bytes are not whole, or not of the format
    │   ├── BadMetadata           its header lacks a key, or holds a value that cannot be used
    │   └── PluginFault           a plug-in failed: nobody knows whether the file is good
    ├── JobFailed             one attempt failed; carries its fate and the evidence
    ├── StoreError            a store could not do what was asked
    │   ├── NameCollision         the name exists there with other bytes
    │   ├── StoredFileMissing     the file is not there
    │   ├── StoreFull             no room left
    │   └── StoreDenied           it does not let one in, or not do that
    └── ServiceError          a service cannot be used: database, Prefect server                      exit code 3
        ├── DatabaseAway          it may be back by itself
        ├── DatabaseFull          it has no room left
        ├── DatabaseReadOnly      it cannot be written
        ├── DatabaseDenied        it does not let the user in, or do what is asked
        ├── DatabaseIncomplete    it is not there, lacks tables, or is damaged
        ├── ServerAway
        └── EngineAway            it cannot be asked now: what it runs goes on

Each error says what failed, on what, and what to do next; ``retry_may_help`` says whether the same request may succeed
later without a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import ClassVar, Final

EXCERPT: Final = 120
"""Characters of a long expression that an error shows."""


class NightmillError(Exception):
    """Anything that nightmill reports on purpose.

    Parameters
    ----------
    message
        What failed, on what.
    remedy
        What to do next, as one sentence; appended to the message.
    """

    exit_code: ClassVar[int] = 2
    retry_may_help: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), dict(self.__dict__), self.args))


def _rebuild(kind: type[NightmillError], state: dict[str, object], args: tuple[object, ...]) -> NightmillError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class RequestRefused(NightmillError):
    """The request cannot be carried out as it stands; nothing was done."""


class ConfigError(RequestRefused):
    """A configuration file or an override is wrong.

    Parameters
    ----------
    message
        What is wrong, naming the key.
    where
        ``file:line`` (or the override) that holds it.
    """

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.where = where
        super().__init__(f"{where}: {message}" if where else message, remedy=remedy)


class ConfigErrors(ConfigError):
    """Several things are wrong with one document; all are listed, one a line."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class ExpressionError(RequestRefused):
    """An expression over files is wrong.

    Parameters
    ----------
    text
        The expression.
    column
        Where in it, counted from 0.
    """

    def __init__(self, message: str, *, text: str, column: int = 0, remedy: str = "") -> None:
        self.text = text
        self.column = column
        begin = max(column - EXCERPT // 2, 0) if len(text) > EXCERPT else 0
        before, after = "..." * (begin > 0), "..." * (len(text) > begin + EXCERPT)
        shown = f"{before}{text[begin : begin + EXCERPT]}{after}"
        super().__init__(f"{message}\n    {shown}\n    {' ' * (len(before) + column - begin)}^", remedy=remedy)


class PlanRefused(RequestRefused):
    """A plan has problems; every one of them is listed, not the first.

    Parameters
    ----------
    problems
        One sentence a problem.
    as_of
        The time whose catalogue it was made from; empty for now.
    """

    def __init__(self, campaign: str, problems: Sequence[str], *, as_of: str = "") -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        when = f" as of {as_of}" if as_of else ""
        super().__init__(f"campaign {campaign!r} cannot be planned{when}: {count}\n{lines}")


class PlanDiffers(RequestRefused):
    """What was to be submitted as it was seen has changed since.

    Parameters
    ----------
    differences
        One sentence each.
    """

    def __init__(self, campaign: str, digest: str, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        lines = "\n".join(f"  - {each}" for each in differences)
        super().__init__(
            f"campaign {campaign!r} would not be what was saved as plan {digest}\n{lines}",
            remedy=f"'nightmill plan CAMPAIGN.yaml --against {digest}' shows all of it; save the plan as it is now",
        )


class UnknownName(RequestRefused):
    """A name that stands for nothing here.

    Parameters
    ----------
    kind
        What was looked for: ``"campaign"``, ``"file type"``...
    name
        The name as given.
    known
        The names that exist, for a guess.
    """

    def __init__(self, kind: str, name: str, known: Sequence[str] = (), *, remedy: str = "") -> None:
        super().__init__(f"no {kind} named {name!r}{guess(name, known)}", remedy=remedy)


class BadName(RequestRefused):
    """A file name cannot be made from its template, or is not fit to be a name."""


class BadText(RequestRefused):
    """A text of a step cannot be filled in: a file has no value of a key that it asks for, or a template is wrong."""


class BadPlugin(RequestRefused):
    """An installed plug-in cannot be used: it does not import, has a name twice, or breaks what its port promises."""


class NameTaken(RequestRefused):
    """Names that are to be registered stand in the catalogue already; nothing was registered.

    Parameters
    ----------
    same
        The names that are there with the same bytes.
    other
        Those that are there with other bytes, or were given twice.
    """

    def __init__(self, *, same: Sequence[str], other: Sequence[str]) -> None:
        self.same = tuple(same)
        self.other = tuple(other)
        lines = [f"  - {name}: registered already, with the same bytes" for name in same]
        lines += [f"  - {name}: registered already, with other bytes" for name in other]
        count = len(lines)
        super().__init__(
            f"{count} name{'s are' if count != 1 else ' is'} taken, and names are unique for ever\n" + "\n".join(lines)
        )


class OrderChanged(RequestRefused):
    """What is kept of an attempt does not give the order that it was issued with: rows were changed from outside.

    Parameters
    ----------
    attempt
        Which.
    issued, rendered
        The digests of the order as it was and as it would be.
    """

    def __init__(self, attempt: str, issued: str, rendered: str) -> None:
        super().__init__(
            f"the order of attempt {attempt} cannot be had again: it was issued with digest {issued[:16]}, and its"
            f" plan, its inputs and their copies give {rendered[:16]}",
            remedy="its journal in spool/recorded has it as it was; somebody changed rows of the database by hand",
        )


class FileRefused(NightmillError):
    """One file cannot be taken in; the others go on.

    Attributes
    ----------
    reason
        A stable code, for queries: ``truncated``, ``missing_keyword``...
    check
        Name of the check that refused it, or an empty string.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        self.reason = reason
        self.check = ""
        super().__init__(message, remedy=remedy)


class BadFile(FileRefused):
    """The bytes of a file are not whole, or not of its format."""


class BadMetadata(FileRefused):
    """A header lacks a required key, or holds a value that cannot be used."""


class PluginFault(FileRefused):
    """A plug-in that was to look at a file failed, or is not there: nobody knows whether the file is good."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message, reason="plugin_fault", remedy=remedy)


class JobFailed(NightmillError):
    """One attempt at a job failed.

    Parameters
    ----------
    message
        What failed, on what.
    fate
        The value of the :class:`nightmill.model.fate.Fate` that it ended with.
    step
        The step that failed, or an empty string where none had begun.
    """

    exit_code = 1

    def __init__(self, message: str, *, fate: str, step: str = "", remedy: str = "") -> None:
        self.fate = fate
        self.step = step
        super().__init__(message, remedy=remedy)


class StoreError(NightmillError):
    """A store could not do what was asked."""

    exit_code = 3
    retry_may_help = True


class NameCollision(StoreError):
    """The name exists in the store with other bytes; nothing was overwritten."""

    retry_may_help = False


class StoredFileMissing(StoreError):
    """The file is not in the store."""

    retry_may_help = False


class StoreDenied(StoreError):
    """The store does not let one in, or not do that: keys that are wrong, missing or expired, or a host not trusted."""

    retry_may_help = False


class StoreFull(StoreError):
    """The store has no room left; nothing is visible under the name."""


class ServiceError(NightmillError):
    """A service that the request needs is away, or cannot be used as it is."""

    exit_code = 3
    retry_may_help = True


class DatabaseAway(ServiceError):
    """The database cannot be reached, or stayed locked."""


class DatabaseFull(ServiceError):
    """The database has no room left; nothing was written."""

    retry_may_help = False


class DatabaseReadOnly(ServiceError):
    """The database can be read and not written; nothing was written."""

    retry_may_help = False


class DatabaseDenied(ServiceError):
    """The database does not let the user in, or not do what is asked."""

    retry_may_help = False


class DatabaseIncomplete(ServiceError):
    """The database is not there, lacks tables that this program needs, or is damaged."""

    retry_may_help = False


class ServerAway(ServiceError):
    """The Prefect server cannot be reached."""


class EngineAway(ServiceError):
    """An engine cannot be reached, or does not answer: what it carries out goes on."""


def guess(name: str, known: Sequence[str]) -> str:
    """Guess what a mistyped name meant.

    Returns
    -------
    str
        ``" (did you mean 'x'?)"``, or an empty string where nothing known is near.
    """
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
