"""File type documents: kinds of files, how they are named, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from nightmill import plugins
from nightmill.config.build import build, named, raise_all, refuse_unknown
from nightmill.config.document import Document, Key, Plain, dotted, load_document
from nightmill.config.keys import contradictions, keys_of, own_kinds
from nightmill.config.rules import OWN, Problem, check_calibration, check_fit
from nightmill.errors import BadName, BadPlugin, ConfigError, UnknownName, guess
from nightmill.files import checks
from nightmill.files.computed import check_call, parse_call, type_of
from nightmill.files.footprints import CIRCLE
from nightmill.files.formats import open_format
from nightmill.files.headers import computing_order
from nightmill.files.inspection import unfit
from nightmill.files.name_patterns import pattern_of
from nightmill.files.naming import NAME_FIELDS, Template
from nightmill.files.recognition import check_recognise
from nightmill.files.units import unit_converter
from nightmill.model.base import Frozen
from nightmill.model.dimensions import DIMENSIONS, TIMES, KeyType, KeyValue
from nightmill.model.exclusion import EXCLUDED
from nightmill.model.file_type import Checks, FileType, MetadataKey
from nightmill.model.footprint import FootprintKeys
from nightmill.model.ports import Format, KeywordFormat, TableFormat

_COLUMNS: Final = ("name", "original_name", "type", "origin", "size_bytes", "registered_at", "metadata", EXCLUDED)
"""What expressions over files know already; metadata of these names could not be asked for."""


_EXAMPLES: Final[Mapping[KeyType, KeyValue]] = {"str": "1", "int": 1, "float": 1.0, "bool": True, "time": "1"}


class FileTypesFile(Frozen):
    """Kinds of files: how they are named, read and checked."""

    file_types: Mapping[str, Any]
    """File types by name."""


def load_file_types(paths: Iterable[Path], named_at: Mapping[Path, str] | None = None) -> dict[str, FileType]:
    """Load file types from documents and check each in itself.

    Parameters are those of :func:`read_file_types`.

    Returns
    -------
    dict of str to FileType
        By name, in the order of the documents.

    Raises
    ------
    ConfigErrors
        Everything that is wrong in all of the documents.
    """
    types, errors = read_file_types(paths, named_at)
    raise_all(errors)
    return types


def read_file_types(
    paths: Iterable[Path], named_at: Mapping[Path, str] | None = None
) -> tuple[dict[str, FileType], list[ConfigError]]:
    """Read file types from documents and check each in itself.

    Parameters
    ----------
    named_at
        ``file:line`` that names a document, for the message where it cannot be read.

    Returns
    -------
    tuple
        Those that are right, by name in the order of the documents, and everything that is wrong.
    """
    types: dict[str, FileType] = {}
    documents: dict[str, Document] = {}
    errors: list[ConfigError] = []
    for path in paths:
        try:
            document = load_document(path, (named_at or {}).get(path, ""))
            bodies = build(FileTypesFile, document.data, document.where).file_types
        except ConfigError as error:
            errors.append(error)
            continue
        for name, body in bodies.items():
            key: Key = ("file_types", name)
            try:
                types[name] = _file_type(name, body, document)
            except ConfigError as error:
                errors.append(error)
            if name in documents:
                first = documents[name].where(key)
                errors.append(
                    ConfigError(f"file type {name!r} is defined twice (first {first})", where=document.where(key))
                )
            documents.setdefault(name, document)
    return types, [*errors, *_check_together(types, documents)]


def _check_together(types: Mapping[str, FileType], documents: Mapping[str, Document]) -> Iterator[ConfigError]:
    """Yield what is wrong with file types beside each other: keys of several types, templates with unknown keys."""
    for first, later, text in contradictions(types):
        here, before = (("file_types", *each) for each in (later, first))
        yield ConfigError(
            f"{dotted(here)}: {text} ({documents[str(first[0])].where(before)})",
            where=documents[str(later[0])].where(here),
            remedy="a key has one type at a site: give both the same, or one of them another name",
        )
    values = {name: _EXAMPLES[kind] for name, kind in keys_of(types).items()}
    values |= {name: kind(1) for name, kind in NAME_FIELDS.items()}
    for called, file_type in types.items():
        own = ("file_types", called, "template")
        for text in _check_fields(Template(file_type.template), values) if file_type.template else ():
            yield ConfigError(f"{dotted(own)}: {text}", where=documents[called].where(own))


def _check_fields(template: Template, values: Mapping[str, KeyValue]) -> Iterator[str]:
    unknown = [field for field in template.fields if field not in values]
    for field in unknown:
        near = guess(field, list(values)) or f" (known are {', '.join(NAME_FIELDS)}, and keys of the site's metadata)"
        yield f"template {template.text!r} has the field {{{field}}}, which is not known{near}"
    if not unknown:
        try:
            template.render(values)
        except BadName as error:
            yield str(error)


def _file_type(name: str, body: Plain, document: Document) -> FileType:
    key: Key = ("file_types", name)
    file_type = build(FileType, named(name, body, key, document.where), document.where, written=body, prefix=key)
    wrong = [
        ConfigError(f"{dotted(key)}: {text}", where=document.where((*key, *rest)))
        for rest, text in check_file_type(file_type)
    ]
    raise_all([*wrong, *_check_options(file_type, key, document)])
    return file_type


def _check_options(file_type: FileType, key: Key, document: Document) -> Iterator[ConfigError]:
    """Yield everything that is wrong with the checks of a file type."""
    for name, options, warns in file_type.checks.asked():
        own = (*key, "checks", *(["warn"] if warns else []), name)
        try:
            kind = checks.check_class(name)
            made = build(kind.Options, options, document.where, prefix=own)
        except UnknownName:
            yield from refuse_unknown({name: options}, plugins.names(checks.GROUP), own[:-1], document.where)
        except BadPlugin as error:
            yield ConfigError(f"{dotted(own)}: {error.message}", where=document.where(own), remedy=error.remedy)
        except ConfigError as error:
            yield error
        else:
            asked = dict.fromkeys(kind.metadata_keys(made)) if hasattr(kind, "metadata_keys") else {}
            yield from refuse_unknown(asked, list(file_type.metadata), own, document.where)
            why = unfit(name, kind, file_type.format)
            if why and not Checks.of_every_type(name, warns=warns):
                yield ConfigError(
                    f"{dotted(own)}: {why}",
                    where=document.where(own),
                    remedy=f"say format: {kind.formats[0] if kind.formats else 'fits'}, or leave the check out",
                )


def check_file_type(file_type: FileType) -> Iterator[Problem]:
    """Yield everything that is wrong with a file type in itself, with the key where it is."""
    yield from (((), text) for text in check_fit("file type name", file_type.name))
    if file_type.name in OWN:
        yield (), f"{file_type.name!r} is a file type that nightmill has itself; give this one another name"
    yield from ((("template",), text) for text in _check_template(file_type.template))
    yield from ((("name_pattern",), text) for text in _check_name_pattern(file_type))
    format = None
    try:
        format = open_format(file_type.format)
    except (UnknownName, BadPlugin) as error:
        yield ("format",), str(error)
    if file_type.membership is not None:
        yield from ((("membership",), text) for text in _check_membership(file_type, format))
    kinds = own_kinds(file_type)
    yield from ((("footprint",), text) for text in _check_footprint(file_type, format))
    for name, key in file_type.metadata.items():
        in_name = f"{{{name}" in file_type.name_pattern
        yield from ((("metadata", name), text) for text in _check_key(name, key, kinds, in_name=in_name))
        if format is not None:
            yield from ((("metadata", name), text) for text in _check_keywords(name, key, file_type.format, format))
    yield from ((("recognise",), text) for text in check_recognise(file_type))
    if file_type.calibration is not None:
        yield from check_calibration(file_type.calibration)
        if "begins_at" not in file_type.metadata:
            yield ("calibration",), "calibration needs the time of a file, and metadata reads no begins_at"
    try:
        computing_order(file_type.metadata)
    except ConfigError:
        pass  # told with its key above
    except ValueError as error:
        yield ("metadata",), f"{' and '.join(error.args)} are computed from each other"


def _check_membership(file_type: FileType, format: Format | None) -> Iterator[str]:
    assert file_type.membership is not None
    told = file_type.membership.told
    if format is not None and not told and not isinstance(format, TableFormat):
        yield (
            f"membership wants a table, and files of format {file_type.format!r} have none; say another, as fits, or"
            " told: true where steps tell the rows"
        )
    if told and "table" in file_type.membership.model_fields_set:
        yield "membership is told by steps, and not read from a table of the file; leave out table or told"
    columns = [column.upper() for column in file_type.membership.names]
    for column in sorted({column for column in columns if columns.count(column) > 1}):
        yield f"membership names column {column} twice"
    for column, kind in file_type.membership.types.items():
        if not column.isidentifier() or column in _COLUMNS or column in TIMES:
            yield f"column {column!r} cannot be a key; list it without a type"
        elif column in DIMENSIONS and kind != (wanted := DIMENSIONS[column].__name__):
            yield f"column {column!r} is a dimension of type {wanted}, and says {kind}"


def _check_footprint(file_type: FileType, format: Format | None) -> Iterator[str]:
    wanted = file_type.footprint
    if wanted == "wcs" and format is not None and format.keyword is None:
        yield f"footprint wants a WCS, and files of format {file_type.format!r} have no header; say format: fits"
    if not isinstance(wanted, FootprintKeys):
        return
    if len(wanted.keys) != CIRCLE and (len(wanted.keys) % 2 or len(wanted.keys) <= 2 * 2):
        yield f"footprint has {len(wanted.keys)} keys; a circle has 3 (ra, dec, radius), and each corner of a polygon 2"
    for name in wanted.keys:
        key = file_type.metadata.get(name)
        if key is None:
            yield f"footprint names {name!r}, which is not read{guess(name, list(file_type.metadata))}"
        elif type_of(key) not in ("float", "int") or key.unit not in ("", "deg"):
            yield f"footprint names {name!r}, which should be a number in degrees"


def _check_template(text: str) -> Iterator[str]:
    if not text:
        return
    try:
        template = Template(text)
    except BadName as error:
        yield str(error)
        return
    for field in ("campaign", "attempt"):
        if field not in template.fields:
            yield f"template {text!r} lacks {{{field}}}: it cannot tell the {field}s of a unit apart"


def _check_name_pattern(file_type: FileType) -> Iterator[str]:
    try:
        pattern = pattern_of(file_type)
    except BadName as error:
        yield str(error)
        return
    for field in pattern.fields if pattern else ():
        if field in _COLUMNS:
            yield f"metadata cannot be called {field!r}, which every file has already"


def _check_keywords(name: str, key: MetadataKey, called: str, format: Format) -> Iterator[str]:
    if key.keywords and format.keyword is None:
        yield f"{name} has keywords, and files of format {called!r} have no header; say a format that has, as fits"
        return
    for keyword in key.keywords:
        if format.keyword is not None and not format.keyword.fullmatch(keyword):
            yield f"{name}: {keyword!r} is not a keyword of format {called!r}"
        elif isinstance(format, KeywordFormat) and (wrong := format.wrong_with(keyword)):
            yield f"{name}: {keyword!r} {wrong}"


def _check_key(name: str, key: MetadataKey, kinds: Mapping[str, KeyType], *, in_name: bool) -> Iterator[str]:
    kind = kinds[name]
    if not name.isidentifier() or name in _COLUMNS:
        yield f"metadata cannot be called {name!r}{', which every file has already' if name in _COLUMNS else ''}"
    if not key.keywords and not key.compute and key.constant is None and not key.told and not in_name:
        yield f"{name} has neither keywords, constant, compute nor told: nothing gives it a value"
    if key.compute:
        yield from _check_compute(name, key, kinds)
    elif name in DIMENSIONS and kind != (wanted := DIMENSIONS[name].__name__):
        yield f"{name} is a dimension of type {wanted}; say type: {wanted}"
    elif name in TIMES and kind != "time":
        yield f"{name} is a time; say type: time"
    yield from _check_unit(name, key, kind)
    if key.constant is not None and type(key.constant).__name__ != kind:
        yield f"{name} has the constant {key.constant!r}, which is not of type {kind}"
    if isinstance(key.constant, str) and not key.constant.isprintable():
        yield f"{name} has the constant {key.constant!r}, which holds control characters"
    limits = [limit for limit in (key.min, key.max) if limit is not None]
    if limits and (key.compute or kind not in ("int", "float")):
        yield f"{name} has min or max, which are for numbers that a header holds"
    if limits != sorted(limits):
        yield f"{name} has min {key.min:g} and max {key.max:g}: no number is both"


def _check_unit(name: str, key: MetadataKey, kind: str) -> Iterator[str]:
    if kind == "time" and key.unit.upper() not in ("", "MJD", "JD"):
        yield f"{name} is a time, and its unit is {key.unit!r}; it may be MJD or JD, for a header that has a number"
    if key.keyword_unit and not key.unit:
        yield f"{name} has a keyword_unit and no unit to turn it to"
    if key.keyword_unit and kind not in ("int", "float"):
        yield f"{name} has units, and is not a number but of type {kind}"
    if key.keyword_unit and key.unit:
        try:
            unit_converter(key.keyword_unit, key.unit)
        except ValueError as error:
            yield f"{name}: {error}"


def _check_compute(name: str, key: MetadataKey, kinds: Mapping[str, KeyType]) -> Iterator[str]:
    if key.keywords or key.constant is not None or key.told:
        yield f"{name} is computed, and takes no keywords, constant or told besides"
    try:
        call = parse_call(key.compute)
        check_call(call, kinds)
    except ConfigError as error:
        yield f"{name}: {error}"
        return
    wanted = DIMENSIONS[name].__name__ if name in DIMENSIONS else "time" if name in TIMES else call.function.gives
    if call.function.gives != wanted:
        yield f"{name} is of type {wanted}, and {key.compute} gives a {call.function.gives}"
