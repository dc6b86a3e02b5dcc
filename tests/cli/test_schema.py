"""Editors find the schemas of a site's documents without a network."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from nightmill.config.kinds import Kind
from nightmill.config.schema import MODELINE
from tests.cli.conftest import Nightmill
from tests.support.packages import package
from tests.support.requirements import ROOT


def schema_of(document: Path) -> Path:
    """Return the schema that the first line of a document names."""
    first = document.read_text().partition("\n")[0]
    assert first.startswith(MODELINE)
    return document.parent / first.removeprefix(MODELINE)


@pytest.mark.parametrize("kind", Kind)
def test_schema_prints_what_is_shipped(nightmill: Nightmill, kind: Kind) -> None:
    called = nightmill("schema", kind)
    assert (called.code, called.err) == (0, "")
    assert called.out == files("nightmill.config").joinpath("schemas", kind.file).read_text(encoding="utf-8")


def test_schema_of_nothing_known_is_refused(nightmill: Nightmill) -> None:
    called = nightmill("schema", "pipelines")
    assert called.code == 2
    assert "'pipelines' is not one of 'site', 'file_types', 'pipeline', 'campaign'" in called.err


@pytest.mark.parametrize("types", ["", "ccd/file_types.yaml"])
def test_documents_of_a_new_site_fit_the_schemas_that_they_name(
    tmp_path: Path, nightmill: Nightmill, types: str
) -> None:
    given = ("--file-types", ROOT / "examples" / types) if types else ()
    assert nightmill("init", tmp_path / "site", *given).code == 0
    for name, kind in (("nightmill.yaml", Kind.SITE), ("file_types.yaml", Kind.FILE_TYPES)):
        document = tmp_path / "site" / name
        assert document.read_text().count(MODELINE) == 1
        assert schema_of(document) == tmp_path / "site/.nightmill/schemas" / kind.file
        schema = json.loads(schema_of(document).read_text())
        assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(document.read_text()))) == []
    schemas = tmp_path / "site/.nightmill/schemas"
    assert sorted(path.name for path in schemas.iterdir()) == sorted(kind.file for kind in Kind)
    assert {path.stat().st_mode & 0o777 for path in schemas.iterdir()} == {0o600}


CODE = """
from nightmill.model.base import Frozen

class Options(Frozen):
    most: float
    \"\"\"The greatest median.\"\"\"

class Median:
    \"\"\"The median of the pixels.\"\"\"
    Options = Options
"""


def test_init_again_writes_schemas_with_what_was_installed_meanwhile(
    folder: Path, nightmill: Nightmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, schemas = folder / "nightmill.yaml", folder / ".nightmill/schemas"
    site.write_text(site.read_text().replace("access: private", "access: group"))
    package(tmp_path / "installed", "acme", CODE, {"nightmill.checks": {"median": "Median", "broken": "Nothing"}})
    monkeypatch.syspath_prepend(tmp_path / "installed")
    assert nightmill("init", folder).code == 0
    types = (schemas / "file_types.json").read_text()
    assert types == nightmill("schema", "file_types").out
    validator = Draft202012Validator(json.loads(types))
    several = next(each for each in json.loads(types)["$defs"].values() if "patternProperties" in each)[
        "patternProperties"
    ]
    told = {
        check: [error.message for error in validator.iter_errors({"file_types": {"a": {"checks": check_of}}})]
        for check, check_of in {
            "right": {"median": {"most": 3}},
            "wrong": {"median": {"most": "a"}},
            "broken": {"broken": {}},
        }.items()
    }
    assert told == {
        "right": [],
        "wrong": ["'a' is not of type 'number'"],
        "broken": [f"'broken' does not match any of the regexes: {', '.join(map(repr, sorted(several)))}"],
    }
    assert {path.stat().st_mode & 0o777 for path in schemas.iterdir()} == {0o660}
