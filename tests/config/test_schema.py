"""Schemas and reading agree: they are made of the same models."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nightmill.config.document import parse_document
from nightmill.config.kinds import Kind
from nightmill.config.schema import MODELINE, made_text, schema_text
from nightmill.config.template import file_types_text, site_text
from nightmill.errors import ConfigError, ConfigErrors
from tests.config.documents import CAMPAIGN, PIPELINE
from tests.config.test_any_document import LOADERS, OVERRIDES, VALUES, change_data
from tests.docs.pages import all_pages
from tests.support.observatory import FILE_TYPES
from tests.support.requirements import ROOT

PIECES = sorted((ROOT / "examples").glob("*/tilings.yaml"))
"""Of the configuration of a site, which the pages append to one."""
EXAMPLES = sorted(set((ROOT / "examples").glob("*/*.yaml")) - set(PIECES))
SCHEMAS = {kind: json.loads(schema_text(kind)) for kind in Kind}
PLUGIN_PAGES = {"add-a-check", "add-a-format", "add-a-lookup"}
"""Their documents ask for the plug-ins that they show how to write."""
LEFT_OUT = {"true", "no", "on", "'**'", "'**.yaml'"}
"""What reading takes for a number or a boolean as well, and patterns of file types that the site itself is like."""


def misfits(kind: Kind, text: str) -> list[str]:
    """Return what a schema says against a document."""
    data = parse_document(text.encode(), "document").data
    return [error.message for error in Draft202012Validator(SCHEMAS[kind]).iter_errors(data)]


def refusals(kind: Kind, text: str, folder: Path) -> list[str]:
    """Return what reading says against a document, beside which lie a pipeline and file types."""
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "file_types.yaml").write_text(file_types_text())
    name, _, load = LOADERS[kind.replace("_", " ")]
    (folder / name).write_text(text)
    try:
        load(folder / name)
    except ConfigError as error:
        return [str(each) for each in (error.errors if isinstance(error, ConfigErrors) else [error])]
    return []


def kind_of(path: Path) -> Kind:
    """Return what an example is: its first key tells."""
    [first, *_] = re.findall(r"(?m)^(\w+):", path.read_text())
    return Kind(first)


def documents() -> Iterator[Any]:
    """Yield every document that there is, with its kind."""
    for path in EXAMPLES:
        yield pytest.param(kind_of(path), path.read_text(), id=path.relative_to(ROOT).as_posix())
    own = {
        Kind.SITE: [
            site_text("site"),
            *(site_text("site") + piece.read_text() for piece in PIECES),
            "site: a\nfile_types: []\nstores: {backbone: {url: b}}\nserver: {port: '${P}'}",
        ],
        Kind.FILE_TYPES: [file_types_text(), FILE_TYPES],
        Kind.PIPELINE: [PIPELINE],
        Kind.CAMPAIGN: [CAMPAIGN, CAMPAIGN + OVERRIDES],
    }
    yield from (pytest.param(kind, text, id=f"{kind}-{n}") for kind in own for n, text in enumerate(own[kind]))
    for page in all_pages():
        for fence in page.fences if page.path.stem not in PLUGIN_PAGES else ():
            info = re.fullmatch(r"yaml (\w+)", fence.info)
            named = re.fullmatch(r"yaml file=(?:.*/)?(\w+)\.yaml", fence.info)
            if info and info[1] in set(Kind):
                yield pytest.param(Kind(info[1]), fence.text, id=f"{page.name}:{fence.line}")
            elif named and re.match(r"(file_types|pipeline|campaign):", fence.text):
                yield pytest.param(Kind(fence.text.partition(":")[0]), fence.text, id=f"{page.name}:{fence.line}")


@pytest.mark.parametrize(("kind", "text"), list(documents()))
def test_document_fits_its_schema(kind: Kind, text: str) -> None:
    assert misfits(kind, text) == []


@pytest.mark.parametrize(
    ("kind", "old", "new", "told"),
    [
        (Kind.SITE, "spool: spool", "spol: spool", "unknown key spol"),
        (Kind.SITE, "port: 0 ", "port: first", "server.port is 'first'"),
        (Kind.SITE, "kind: disk", "kind: disc", "stores.backbone.kind is 'disc'"),
        (Kind.SITE, "url: stores/backbone", "path: stores/backbone", "stores.backbone.url is missing"),
        (Kind.SITE, "url: areas/quicklook", "url: a\n    catalogued: true", "working_areas.quicklook.catalogued"),
        (Kind.SITE, "  backbone:", "  backbones:", "stores has no 'backbone'"),
        (Kind.SITE, "access: private", "access: everybody", "access is 'everybody'"),
        (Kind.FILE_TYPES, "file_types:", "filetypes:", "file_types is missing"),
        (Kind.FILE_TYPES, "format: fits", "format: fit", "no format named 'fit'"),
        (Kind.FILE_TYPES, "required: true", "required: maybe", "required is 'maybe'"),
        (Kind.FILE_TYPES, "min_hdus: 2", "min_hdus: two", "min_hdus is 'two'"),
        (Kind.FILE_TYPES, "min_hdus: 2", "min_hdu: 2", "unknown key file_types.catalog.checks.min_hdu"),
        (Kind.FILE_TYPES, "min_hdus: 2", "finite: {max_fraction: 2}", "max_fraction is 2"),
        (Kind.FILE_TYPES, "type: time", "type: date", "type is 'date'"),
        (Kind.FILE_TYPES, "description: Sources", "name: Sources", "unknown key file_types.catalog.name"),
        (Kind.PIPELINE, 'version: "1.0"', "version: 1.0", "version is 1.0 and should be a text"),
        (Kind.PIPELINE, "pipeline: ccd", "name: ccd", "unknown key name"),
        (Kind.PIPELINE, "pipeline: ccd", "pipeline: ccd\ndirectory: /", "unknown key directory"),
        (Kind.PIPELINE, "call: ccd", "cal: ccd", "unknown key stages.science.steps.detect.cal"),
        (Kind.PIPELINE, "- name: combine", "- title: combine", "steps[0] has no name"),
        (
            Kind.PIPELINE,
            "    per: [instrument, detector]\n",
            "    name: x\n    per: []\n",
            "unknown key stages.bias.name",
        ),
        (Kind.PIPELINE, "per: [instrument, detector]", "per: detector", "stages.bias.per is 'detector'"),
        (Kind.PIPELINE, "{type: raw_science}", "{}", "inputs.frame.type is missing"),
        (Kind.PIPELINE, "valid_days_after: 30", "maturity: certifed", "maturity is 'certifed'"),
        (Kind.PIPELINE, "{type: raw_science}", "{type: a, lookup: {strategy: near}}", "lookup.strategy is 'near'"),
        (
            Kind.PIPELINE,
            "source: {stage: bias}",
            "source: {calibrations: [ccd]}, lookup: {strategy: nearest, max_day: 3}",
            "unknown key stages.science.inputs.bias.lookup.max_day",
        ),
        (Kind.CAMPAIGN, "campaign: night-1", "campagne: night-1", "campaign is missing"),
        (Kind.CAMPAIGN, "threads: 2", "threads: -2", "execution.threads is -2"),
        (Kind.CAMPAIGN, "sigma: 4", "sigma: [4]", "parameters.sigma is a list"),
        (Kind.CAMPAIGN, "overrides:", "overrides:\n  bundle: {}", "overrides.bundle cannot be set"),
        (Kind.CAMPAIGN, "cores: 2", "core: 2", "unknown key stages.science.resources.core"),
        (Kind.CAMPAIGN, "wall_seconds: 3", "wall_seconds: long", "wall_seconds is 'long'"),
        (Kind.CAMPAIGN, "max_days: 3", "max_days: -3", "lookup.max_days is -3"),
    ],
)
def test_wrong_document_is_refused_by_schema_and_reading(
    tmp_path: Path, kind: Kind, old: str, new: str, told: str
) -> None:
    whole = LOADERS[kind.replace("_", " ")][1]
    assert (misfits(kind, whole), refusals(kind, whole, tmp_path)) == ([], [])
    assert old in whole
    text = whole.replace(old, new)
    assert told in "\n".join(refusals(kind, text, tmp_path))
    assert misfits(kind, text)


@pytest.mark.parametrize("kind", Kind)
def test_whatever_reading_accepts_fits_the_schema(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.config.test_any_document.VALUES", [each for each in VALUES if each not in LEFT_OUT])
    rng = random.Random(kind)
    ends = {"accepted": 0, "unknown": 0}
    for _ in range(300):
        text = change_data(LOADERS[kind.replace("_", " ")][1], rng)
        wrong = refusals(kind, text, tmp_path)
        if not wrong:
            assert misfits(kind, text) == [], text
            ends["accepted"] += 1
        elif any("unknown key" in each for each in wrong):
            assert misfits(kind, text), (wrong, text)
            ends["unknown"] += 1
    assert min(ends.values()) > 20, ends


@pytest.mark.parametrize("kind", Kind)
def test_schema_is_one_and_says_what_each_key_means(kind: Kind) -> None:
    schema = SCHEMAS[kind]
    Draft202012Validator.check_schema(schema)
    keys = [
        (name, about)
        for part in [schema, *schema["$defs"].values()]
        for each in [part, *part.get("anyOf", ())]
        for name, about in each.get("properties", {}).items()
    ]
    assert len(keys) > 10
    assert [name for name, about in keys if not about.get("description")] == []
    told = " ".join(about["description"] for _, about in keys)
    assert not re.search(r"``|:\w+:`|Parameters", told)


@pytest.mark.parametrize("kind", Kind)
def test_schema_that_is_shipped_is_up_to_date(kind: Kind) -> None:
    shipped = files("nightmill.config").joinpath("schemas", kind.file).read_text(encoding="utf-8")
    assert shipped == made_text(kind) == schema_text(kind), (
        f"nightmill schema {kind} > nightmill/config/schemas/{kind.file}"
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_example_names_its_schema_to_editors(path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    assert first.startswith(MODELINE)
    schema = path.parent / first.removeprefix(MODELINE)
    assert schema.resolve() == ROOT / "nightmill/config/schemas" / kind_of(path).file
