"""Names of files: made from templates, or given by whoever brings them, and fit to be names wherever they go.

A name takes ``A-Z a-z 0-9 . _ + - :``, and ``%`` where it stands for something else (:func:`fit_name`). A value from a
header is data, not a path: what becomes part of a name takes the same without ``:`` and ``%``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from string import Formatter
from typing import Final

from nightmill.errors import BadName
from nightmill.model.dimensions import DIMENSIONS, NAME
from nightmill.model.file_type import compression_of

MAX_NAME_BYTES: Final = 200
MAX_VALUE_LENGTH: Final = 64
"""Of one text that tells files apart: longer ones are not identifiers."""

STEM: Final = "stem"
"""The field that is the name of the file that makes the unit, without the end that tells its format."""
ATTEMPT_FIELDS: Final[Mapping[str, type[str | int]]] = {
    "campaign": int,
    "attempt": int,
    "stage": str,
    "step": str,
    "role": str,
    "file_type": str,
    "n": int,
}
"""What the template of a file type may hold, beside keys, with the type of the values."""
NAME_FIELDS: Final[Mapping[str, type[str | int]]] = {**DIMENSIONS, **ATTEMPT_FIELDS, NAME: str, STEM: str}
"""What it may hold at every site, whatever keys this has."""

_FIT: Final = re.compile(r"[A-Za-z0-9._+-]+")
_NAME: Final = re.compile(r"[A-Za-z0-9._+:%-]+")
_UNFIT: Final = re.compile(rb"[^A-Za-z0-9._+:-]|(?:^|(?<=\.))\.|^-")
_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,8}){0,2}\Z")
_REMEDY: Final = "use letters, digits and . _ + - alone"


def key_of(field: str) -> str:
    """Return the key that gives a field of a template its value."""
    return NAME if field == STEM else field


def is_fit(value: str) -> bool:
    """Say whether a text may become part of a name, also the first."""
    return (
        len(value) <= MAX_VALUE_LENGTH
        and ".." not in value
        and _FIT.fullmatch(value) is not None
        and value[0] not in ".-"
    )


def slug(value: str) -> str:
    """Turn any text into one that is fit to be part of a name: what is not fit becomes ``_``, with a digest behind it.

    A text that is fit stays as it is, so that different texts stay different.
    """
    if is_fit(value):
        return value
    digest = sha256(value.encode(errors="surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9+-]+", "_", value).strip("_-+")[: MAX_VALUE_LENGTH - 9]
    return f"{kept}_{digest}" if kept else digest


def stem_of(name: str) -> str:
    """Return the name of a file without the end that tells its format, and how its bytes are compressed."""
    compression = compression_of(name)
    stem = name.removesuffix(name[-len(compression) - 1 :]) if compression else name
    return stem.rpartition(".")[0] or stem


def fit_name(given: str) -> str:
    """Turn the name that a file comes with into one that :func:`check_name` accepts.

    Returns
    -------
    str
        The name itself where it is fit. Else each byte of it that is not stands as ``%`` and two hexadecimal digits, as
        in a URL, so that no two names become one; one that is too long then ends in ``%-`` and a part of its SHA-256.
    """
    data = os.fsencode(given)
    name = _UNFIT.sub(lambda match: b"%%%02X" % match[0][0], data).decode("ascii")
    if len(name) <= MAX_NAME_BYTES:
        return name
    suffix = _SUFFIX.search(name)
    end = f"%-{sha256(data).hexdigest()[:16]}{suffix[0] if suffix else ''}"
    return re.sub(r"%.?\Z", "", name[: MAX_NAME_BYTES - len(end)]) + end


def name_of_content(given: str, compression: str) -> str:
    """Return the name of a file as what it is: the end of it tells how its bytes are compressed.

    Parameters
    ----------
    compression
        ``gz``, ``bz2``, or an empty string for none.
    """
    told = compression_of(given)
    if told == compression or (not compression and told == "fz"):
        return given
    if not compression:
        return given.removesuffix(given[-len(told) - 1 :])
    return f"{given}.{compression}"


def check_name(name: str) -> None:
    """Check that a name is fit: no separators, no ``..``, nothing hidden, not too long.

    Raises
    ------
    BadName
        Where it is not; says why.
    """
    # All of it is ASCII once the pattern holds, so that characters are bytes.
    if _NAME.fullmatch(name) and ".." not in name and name[0] not in ".-" and len(name) <= MAX_NAME_BYTES:
        return
    if not name:
        raise BadName("a file name is empty")
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise BadName(f"file name {name[:40]!r}... has more than {MAX_NAME_BYTES} bytes", remedy="shorten it")
    if name[0] in ".-":
        raise BadName(f"file name {name!r} begins with {name[0]!r}", remedy="begin it with a letter or digit")
    what = "'..'" if ".." in name else repr(re.sub(_NAME, "", name)[0])
    raise BadName(f"file name {name!r} contains {what}", remedy=_REMEDY)


class _Open:
    """What stands for the value of a field that stays as it is, with its format."""

    def __init__(self, field: str) -> None:
        self.field = field

    def __format__(self, spec: str) -> str:
        return f"{{{self.field}:{spec}}}" if spec else f"{{{self.field}}}"


class Template:
    """A template of names, as ``{instrument}_{exposure:08d}_c{campaign:04d}a{attempt:02d}.fits``.

    Parameters
    ----------
    text
        Literal text and fields, each a plain name with or without a format, as Python's ``str.format`` has them.
    opened
        Whether it is what :meth:`open` made: its literal text is that of a name.

    Raises
    ------
    BadName
        Where it cannot be parsed, or its literal text is not fit for a name.
    """

    __slots__ = ("fields", "text")

    def __init__(self, text: str, *, opened: bool = False) -> None:
        self.text = text
        fit = _NAME if opened else _FIT
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise self._bad(str(error)) from error
        fields: list[str] = []
        for literal, field, spec, conversion in parts:
            if literal and (fit.fullmatch(literal) is None or ".." in literal):
                raise BadName(f"template {text!r} has {literal!r}, which is not fit for a file name", remedy=_REMEDY)
            if field is None:
                continue
            if not field.isidentifier() or conversion or "{" in (spec or ""):
                raise self._bad(f"the field {field!r} is not a plain name")
            if re.search(r"\d{4}", spec or ""):
                raise self._bad(f"the field {field!r} is wider than any name")
            fields.append(field)
        self.fields: tuple[str, ...] = tuple(dict.fromkeys(fields))
        """The names of its fields, each once, in their order."""

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, values: Mapping[str, object]) -> str:
        """Make a name.

        Parameters
        ----------
        values
            At least the fields of the template: texts and integers. Texts are data: what is not fit for a name is
            refused, never changed.

        Returns
        -------
        str
            A name that :func:`check_name` accepts.

        Raises
        ------
        BadName
            Where a field has no value, or the value or the name is not fit.
        """
        name = self._filled(values)
        self._check(name, values)
        return name

    def open(self, values: Mapping[str, object], fields: Collection[str]) -> str:
        """Make a name but for some fields, which stay as they are: a template of names that are made later.

        Parameters
        ----------
        values
            The other fields of the template.

        Raises
        ------
        BadName
            As :meth:`render`.
        """
        text = self._filled({**values, **{field: _Open(field) for field in fields}})
        self._check(re.sub(r"\{[^}]*\}", "0", text), values)
        return text

    def _filled(self, values: Mapping[str, object]) -> str:
        try:
            for field in self.fields:
                value = values[field]
                if value is None or value == "":
                    raise BadName(f"template {self.text!r} cannot be filled: {field} has no value")
            return self.text.format_map(values)
        except KeyError as error:
            known = ", ".join(sorted(values)) or "none"
            raise BadName(
                f"template {self.text!r} needs {error.args[0]!r}, and there is none", remedy=f"it may use: {known}"
            ) from error
        except (ValueError, TypeError) as error:
            raise BadName(f"template {self.text!r} cannot be filled: {error}", remedy="mend its formats") from error

    def _check(self, name: str, values: Mapping[str, object]) -> None:
        try:
            check_name(name)
        except BadName as error:
            raise self._culprit(values) or error from None
        if (":" in name or "%" in name) and (culprit := self._culprit(values)):  # a name takes them, and no value
            raise culprit

    def _culprit(self, values: Mapping[str, object]) -> BadName | None:
        """Find the value that makes a name unfit, for a better message."""
        for field in (field for field in self.fields if key_of(field) != NAME and field in values):
            value = str(values[field])
            if len(value) > MAX_VALUE_LENGTH:
                return BadName(f"{field} is {value[:40]!r}..., of {len(value)} characters", remedy="shorten it")
            if not is_fit(value):
                return BadName(
                    f"{field} is {value!r}, which is not fit for a file name", remedy=f"{_REMEDY}, not . or - first"
                )
        return None

    def _bad(self, why: str) -> BadName:
        return BadName(f"template {self.text!r} cannot be read: {why}", remedy="write fields as {exposure:08d}")
