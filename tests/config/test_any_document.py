"""Whatever stands in a document, its loader accepts it, or says what is wrong with the file and the line of each."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightmill.config.campaign import load_campaign
from nightmill.config.file_types import load_file_types
from nightmill.config.pipeline import load_pipeline
from nightmill.config.site import load_site
from nightmill.config.template import file_types_text, site_text
from nightmill.errors import ConfigError, ConfigErrors
from tests.config.documents import CAMPAIGN, PIPELINE

OVERRIDES = """\
parameters: {sigma: 4}
execution: {threads: 2}
overrides:
  stages:
    science:
      resources: {cores: 2}
      inputs: {bias: {lookup: {strategy: nearest, max_days: 3}, source: {calibrations: [ccd]}}}
      steps: {detect: {wall_seconds: 3, outputs: {catalog: {required: false}}}}
"""
OVERRIDE = """\
why: the night was cold
where: night == 20260111
parameters: {sigma: 4, mode: slow}
execution: {threads: 2, jobs_per_slice: 10}
inputs: {bias: {where: night < 20260110, why: light in the later ones, min: 1}}
units:
  detector=2: {why: a bright star, parameters: {mode: fast}, overrides: {stages: {science: {steps: {reduce: {}}}}}}
"""


def load_overridden(path: Path) -> object:
    """Load an operator's file over a campaign that has everything else."""
    (path.parent / "campaign.yaml").write_text(CAMPAIGN + OVERRIDES)
    return load_campaign(path.parent / "campaign.yaml", overrides=[path])


LOADERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "pipeline": ("pipeline.yaml", PIPELINE, load_pipeline),
    "campaign": ("campaign.yaml", CAMPAIGN + OVERRIDES, load_campaign),
    "override": ("override.yaml", OVERRIDE, load_overridden),
    "site": ("nightmill.yaml", site_text("site"), lambda path: load_site(path.parent)),
    "file types": ("file_types.yaml", file_types_text(), lambda path: load_file_types([path])),
}
VALUES = """\
no|on|~|.nan|-.inf|1e999|0o17|012|0xFFFFFFFFFFFFFFFFF|2026-01-10|12:30:00|-1|1.5|true|""|"\\0"|"\\ud800"|"\\a"|"a\\nb"|[]|{}
[[]]|[1, a, {b: c}]|{a: {b: {}}}|{name: x}|*none|&a [*a]|!!int x|!!int 3|!!float x|!!bool maybe|!!null x|!!binary aGk=
!!set {a, b}|!!map []|!!timestamp 2026-01-10|!mine x|<<|'~nobody/x'|'**'|'**.yaml'|'[*'|'http://['|'../../x'|/|.|é|${|'$$'
'{'|'{0}'|'{exposure:99999999999d}'|'{a.b}'|'{inputs.x}'|'sqlite://'|'postgresql://@['|'concat(*a)'|'concat(1j)'|'é(x)'
""".replace("\n", "|").split("|")[:-1]
VALUES += ["9" * 50, "9" * 5000, "0x" + "F" * 5000, "x" * 500, f"'{'(' * 300}'", f"'concat({'-' * 3000}1)'"]
JUNK = [
    *"{}[]:,\"'#&*!|>%@`\t-?\0\x01\x7f\x85\u2028\ufeff\r",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "<<: {a: 1}\n",
    "? [a]\n",
]


def paths(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        yield from paths(value, (*path, name))


def change_text(text: str, rng: random.Random) -> str:
    """Spoil what a line says: take it out, give it twice, cut it, indent it, put something into it."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    line, cut = lines[at], rng.randrange(len(lines[at]))
    lines[at] = rng.choice(
        ["", line + line, line[:cut] + "\n", " " * cut + line, "\t" + line, line[:cut] + rng.choice(JUNK) + line[cut:]]
    )
    return "".join(lines)


def change_data(text: str, rng: random.Random) -> str:
    """Take a value out, put another in its place, or give it another name."""
    data = yaml.safe_load(text)
    *way, name = rng.choice(list(paths(data)))
    around = data
    for part in way:
        around = around[part]
    match rng.choice(["out", "value", "value", "value", "name"]):
        case "out":
            del around[name]
        case "name" if isinstance(around, dict):
            around[rng.choice(["name", "stages", "x", "", "a.b", "1", f"{name}s"])] = around.pop(name)
        case _:
            around[name] = "@@"
    return json.dumps(data, indent=1).replace('"@@"', rng.choice(VALUES))


@pytest.mark.parametrize("kind", LOADERS)
def test_any_document_is_accepted_or_refused_by_file_and_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "file_types.yaml").write_text(file_types_text())
    name, whole, load = LOADERS[kind]
    rng = random.Random(kind)
    ends = {"accepted": 0, "refused": 0}
    for _ in range(400):
        document = rng.choice([change_text, change_data])(whole, rng)
        (tmp_path / name).write_text(document, encoding="utf-8", errors="surrogatepass", newline="")
        try:
            load(tmp_path / name)
            ends["accepted"] += 1
        except ConfigError as error:
            for each in error.errors if isinstance(error, ConfigErrors) else (error,):
                assert re.fullmatch(rf"{re.escape(str(tmp_path))}/\w+\.yaml:\d+", each.where), (str(each), document)
                assert len(str(each)) < 10_000, document
            ends["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{error!r} of\n{document}") from error
    assert min(ends.values()) > 20, ends
