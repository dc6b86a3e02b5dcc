"""The project keeps its own rules: layers, packages, module sizes, what is shipped, what is written."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import nightmill
from tests.support.requirements import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
MOST_LINES = 400


def tracked(*patterns: str) -> list[Path]:
    """Return the files under version control that match, as paths relative to the project."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_layers_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_every_part_of_the_kernel_stands_in_a_layer() -> None:
    [layers] = [c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    named = set(re.findall(r"nightmill\.(\w+)", " ".join(layers["layers"])))
    present = {path.parts[1].removesuffix(".py") for path in tracked("nightmill/*.py")} - {"__init__", "__main__"}
    assert present <= named


def test_command_line_imports_prefect_lazily() -> None:
    code = "import sys, nightmill.cli; print(sorted({'prefect', 'astropy', 'tasks', 'flows'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["nightmill", "stagers", "provenance", "tasks", "flows", "examples", "benchmarks"])
def test_package_is_ours(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py")


def test_modules_are_short() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in tracked("*.py")}
    assert {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_wheel_ships_what_users_need(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path) for path in tracked(*(f"{package}/" for package in SHIPPED))} <= shipped
    assert {name.partition("/")[0] for name in shipped} - set(SHIPPED) == {
        f"nightmill-{nightmill.__version__}.dist-info"
    }


def test_upload_is_barred() -> None:
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_version_heads_the_changelog() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == nightmill.__version__ == importlib.metadata.version("nightmill")


def test_constraints_pin_each_dependency_and_nothing_but_versions() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line)] == []
    pinned = {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}
    beside = [*PROJECT["project"]["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    wanted = [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *(r for e in beside for r in e)]]
    assert [str(item) for item in wanted if pinned.get(canonical(item.name), "") not in item.specifier] == []


def test_every_fragment_of_the_changelog_is_told(tmp_path: Path) -> None:
    fragments = [path for path in (ROOT / "changelog.d").glob("+*.md")]
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
    assert {path.suffixes[-2].removeprefix(".") for path in fragments} <= kinds
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "99.0"]
    told = " ".join(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert [path.name for path in fragments if " ".join(path.read_text().split()) not in told] == []
    assert "## 99.0" in told


def test_the_hooks_of_pre_commit_are_installed() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {hook["entry"].split()[0] for hook in repository["hooks"]} - {"make"}
    assert [program for program in programs if not Path(sys.executable).with_name(Path(program).name).exists()] == []


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    "forbidden",
    [
        # Where packages come from is the installer's affair, and paths are those of whoever reads.
        r"pythonhosted\.org|pypi\.org|registry\.npmjs|deb\.debian\.org",
        r"(?<![\w.})])/(root|work|Users)/\w",
        r"(?m)^[^'\"]*\b(TODO|FIX" + r"ME)\b",
    ],
)
def test_no_tracked_file_says(forbidden: str) -> None:
    pattern = re.compile(forbidden)
    here = Path(__file__).relative_to(ROOT)
    texts = {path: (ROOT / path).read_bytes().decode(errors="replace") for path in tracked() if path != here}
    assert {str(path): match[0] for path, text in texts.items() if (match := pattern.search(text))} == {}
