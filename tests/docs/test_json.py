"""The reference names each key that a verb prints with ``--json``, with its type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from importlib import import_module
from pkgutil import iter_modules
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from nightmill.cli import VERBS, documents
from nightmill.cli.documents import Document
from nightmill.model.report import JobReport
from tests.docs.pages import REFERENCE, Page

PAGE = Page(REFERENCE / "json.md")
REPORT = "Report"
"""What ``nightmill run`` prints: what its journal comes to, without the order, which whoever runs it has."""
WORDS = {
    str: "text",
    bool: "boolean",
    int: "whole number",
    float: "number",
    datetime: "time",
    NoneType: "null",
    Any: "any value",
}


def all_documents() -> dict[str, type[Document]]:
    modules = [import_module(f"{documents.__name__}.{each.name}") for each in iter_modules(documents.__path__)]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    found = {kind.__name__: kind for kind in kinds if issubclass(kind, Document) and kind is not Document}
    assert len(found) == len({kind for kind in kinds if issubclass(kind, Document) and kind is not Document})
    return found


DOCUMENTS = all_documents()


def written(kind: Any) -> str:
    """Write a type as the page does."""
    if kind in WORDS:
        return WORDS[kind]
    if isinstance(kind, type) and issubclass(kind, Document):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    inside = [written(each) for each in get_args(kind)]
    if get_origin(kind) is UnionType:
        return " or ".join(inside)
    if get_origin(kind) is Sequence:
        return f"list of {inside[0]}"
    assert get_origin(kind) is Mapping, kind
    return f"mapping to {inside[1]}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_is_documented_with_its_type(name: str) -> None:
    kind = DOCUMENTS[name]
    types = get_type_hints(kind)
    told = {row[0].strip("`"): (row[1], bool(row[2])) for row in PAGE.rows(name)}
    assert told == {field.name: (written(types[field.name]), True) for field in fields(kind)}


def test_the_report_of_a_run_is_documented() -> None:
    assert PAGE.named(REPORT) == [name for name in JobReport.model_fields if name != "order"]


def test_every_document_is_of_a_verb_or_of_another_document() -> None:
    headings = set(PAGE.headings[2:])
    assert headings == {*DOCUMENTS, REPORT}
    linked = re.findall(r"\]\(#(\w+)\)", PAGE.prose)
    assert {heading.lower() for heading in headings} == set(linked)
    told = {name.split()[0] for name in PAGE.named("Verbs")}
    assert told == set(VERBS) - {"demo", "schema"}
