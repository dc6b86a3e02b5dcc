"""Formats and checks of packages beside the tree: they are found, and none can end a night or let a bad file pass."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightmill.config.file_types import load_file_types
from nightmill.errors import BadFile, FileRefused, PluginFault
from nightmill.files import checks, formats, inspection
from nightmill.files.inspection import inspect_file
from nightmill.files.recognition import Sorting
from nightmill.model.content import StepInput
from nightmill.model.file_type import FileType
from nightmill.operations.ingest.arrivals import Arrival, Offered, Refused, inspect_all
from tests.config.documents import refusals, write
from tests.support.packages import package

CHECK = """\
import sys
from pathlib import Path
from nightmill.errors import BadFile, ConfigError
from nightmill.model.base import Frozen

class Odd:
    class Options(Frozen):
        how: str = ""
    formats = ()
    compares = False
    def __init__(self, options):
        self.how = options.how
        if self.how == "make":
            raise RuntimeError("never made")
    def look(self, file, inputs):
        text = Path(file.path).read_text()
        if self.how == "exit" and "odd" in text:
            sys.exit("I quit")
        if self.how == "config":
            raise ConfigError("what?")
        if "odd" in text:
            raise ZeroDivisionError("division by zero") if not self.how else BadFile(
                f"{file.name} is odd", reason="odd", remedy="make it even")

class Against(Odd):
    compares = True
    def look(self, file, inputs):
        raise BadFile(f"{file.name} was compared with {[each.name for each in inputs]}", reason="compared")

class Loose(Odd):
    from pydantic import BaseModel as Options

class Table(Odd):
    formats = ("table", "fits")
"""
FORMAT = """\
import re
from nightmill.files.reading import opened
from nightmill.model.content import Content

class Line:
    number, name = 0, ""
    def __init__(self, text):
        self.values = dict(pair.split("=") for pair in text.split())
    def get(self, keyword):
        return self.values.get(keyword)
    def items(self):
        yield from self.values.items()

class Lines:
    keyword = re.compile("[a-z]+")
    def read(self, path, *, descriptor=None, digest=None, verify=False):
        with opened(path, descriptor) as (file, size_bytes):
            data = file.read()
        if digest is not None:
            digest.update(data)
        return Content((Line(data.decode()),), size_bytes)

class Hasty(Lines):
    def read(self, path, *, descriptor=None, digest=None, verify=False):
        return super().read(path, descriptor=descriptor)
"""
ODD = {"odd": "Odd", "against": "Against", "loose": "Loose", "table": "Table"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder that is on the path of imports, with a package of checks and one of formats in it."""
    folder = tmp_path / "site"
    folder.mkdir()
    package(folder, "acme_checks", CHECK, {"nightmill.checks": ODD}, "2.1")
    package(folder, "acme_lines", FORMAT, {"nightmill.formats": {"lines": "Lines", "hasty": "Hasty"}})
    monkeypatch.syspath_prepend(folder)
    caches = (checks.check_class, formats.open_format, inspection._checks)
    yield folder
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, "notes.txt", "instrument=cam note=odd")


def of(format: str = "any", /, **wanted: object) -> FileType:
    return FileType.model_validate({"name": "notes", "format": format, "checks": wanted})


def refusal(file: Path, file_type: FileType) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        inspect_file(file, file_type)
    assert str(file) in str(caught.value)
    return caught.value


def test_a_check_refuses_and_its_remedy_is_told(site: Path, file: Path) -> None:
    error = refusal(file, of(odd={"how": "well"}))
    assert (type(error), error.reason, error.check) == (BadFile, "odd", "odd")
    assert str(error) == f"{file} is odd; make it even"
    file.write_text("even")
    inspect_file(file, of(odd={"how": "well"}))


@pytest.mark.parametrize(
    ("how", "told"), [("", "ZeroDivisionError: division by zero"), ("exit", "SystemExit: I quit"), ("config", "what?")]
)
def test_a_mistake_of_a_check_is_told_with_its_name_the_files_and_the_packages(
    site: Path, file: Path, how: str, told: str
) -> None:
    error = refusal(file, of(odd={"how": how}))
    assert (type(error), error.reason) == (PluginFault, "plugin_fault")
    assert str(error).startswith(f"check 'odd' of acme_checks 2.1 failed on {file}: ")
    assert told in str(error)


@pytest.mark.parametrize("how", ["", "exit"])
def test_the_other_files_of_a_night_are_taken_in(site: Path, tmp_path: Path, how: str) -> None:
    texts = ["even", "odd", "even"]
    paths = [write(tmp_path, f"{number}.txt", text) for number, text in enumerate(texts)]
    with ThreadPoolExecutor(2) as pool:
        found = list(
            inspect_all([Offered(path, str(path)) for path in paths], Sorting((), of(odd={"how": how})), tmp_path, pool)
        )
    assert [type(each) for each in found] == [Arrival, Refused, Arrival]


def test_a_check_that_compares_is_run_where_a_step_made_the_file(site: Path, file: Path) -> None:
    inspect_file(file, of(against={}))
    with pytest.raises(BadFile, match=r"was compared with \['raw.fits'\]"):
        inspect_file(file, of(against={}), inputs=[StepInput("raw.fits", "raw", "raw", "/raw.fits")])
    with pytest.raises(BadFile, match=r"was compared with \[\]"):
        inspect_file(file, of(against={}), inputs=[])


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"odt": {}}, "cannot be looked at: no check named 'odt' (did you mean 'odd'?)"),
        ({"odd": {"haw": 1}}, "check 'odd' of acme_checks 2.1 does not take the options {\"haw\": 1}"),
        ({"odd": {"how": "make"}}, 'cannot be made with the options {"how": "make"}: RuntimeError: never made'),
        ({"loose": {}}, "check 'loose' of acme_checks 2.1 declares no Options that refuse what they do not"),
        ({"table": {}}, "check 'table' looks at files of format table or fits, not any"),
    ],
)
def test_a_check_that_cannot_be_made_lets_no_file_pass(
    site: Path, file: Path, wanted: dict[str, object], told: str
) -> None:
    error = refusal(file, of(**wanted))
    assert isinstance(error, PluginFault)
    assert told in str(error)


def test_a_format_of_a_package(site: Path, file: Path) -> None:
    keys = {"instrument": {"keywords": ["instrument"], "required": True}}
    lines = FileType.model_validate({"name": "notes", "format": "lines", "metadata": keys})
    assert inspect_file(file, lines).metadata.data_id == {"instrument": "cam"}
    file.write_text("no pair")
    error = refusal(file, lines)
    assert str(error).startswith(f"format 'lines' of acme_lines 1.0 failed on {file}: ValueError: ")


def test_a_format_that_does_not_give_all_bytes_to_the_digest_is_found_out(site: Path, file: Path) -> None:
    error = refusal(file, of("hasty"))
    assert error.reason == "changed"
    assert "has 23 bytes, and 0 were read of it; let it be written first; if nobody" in str(error)
    assert "writes it, the mistake is that of format 'hasty' of acme_lines 1.0" in str(error)


def types(tmp_path: Path, body: str) -> Path:
    return write(tmp_path, "types.yaml", f"file_types:\n  notes:\n    format: lines\n{body}")


def test_a_document_with_plugins(site: Path, tmp_path: Path) -> None:
    keys = "    metadata: {night: {keywords: [night], type: int}}\n"
    document = types(tmp_path, "    checks: {min_bytes: 2, odd: {how: well}}\n" + keys)
    notes = load_file_types([document])["notes"]
    assert (notes.format, dict(notes.checks)["odd"]) == ("lines", {"how": "well"})


@pytest.mark.parametrize(
    ("body", "line", "told"),
    [
        ("checks: {odt: {}}", 4, "unknown key file_types.notes.checks.odt (did you mean 'odd'?)"),
        ("checks:\n      odd: {haw: x}", 5, "unknown key file_types.notes.checks.odd.haw (did you mean 'how'?)"),
        ("checks:\n      odd:\n        how: 3", 6, "file_types.notes.checks.odd.how is 3 and should be a text"),
        ("checks:\n      odd:", 5, "file_types.notes.checks.odd is empty and should be"),
        ("checks:\n      loose: {}", 5, "file_types.notes.checks.loose: check 'loose' of acme_checks 2.1"),
        ("checks:\n      table: {}", 5, "file_types.notes.checks.table: check 'table' looks at files of format table"),
        (
            "metadata: {night: {keywords: [NIGHT], type: int}}",
            4,
            "file_types.notes: night: 'NIGHT' is not a keyword of",
        ),
    ],
)
def test_a_document_that_is_wrong(site: Path, tmp_path: Path, body: str, line: int, told: str) -> None:
    [problem] = refusals(load_file_types, [types(tmp_path, f"    {body}\n")])
    assert problem.startswith(f"types.yaml:{line}: {told}")


def test_an_unknown_format_is_told_with_a_guess_and_those_that_are_known(tmp_path: Path) -> None:
    document = write(tmp_path, "types.yaml", "file_types:\n  notes:\n    description: x\n    format: fitz\n")
    [problem] = refusals(load_file_types, [document])
    assert problem == (
        "types.yaml:4: file_types.notes: no format named 'fitz' (did you mean 'fits'?); known formats: any, asdf,"
        " csv, ecsv, fits, hdf5, ipac, json, parquet, text, votable, yaml"
    )


@pytest.mark.parametrize("code", ["import nothing_like_this", "1 / 0", "raise SystemExit(3)", "Odd = None; def"])
def test_a_package_that_cannot_be_imported(site: Path, tmp_path: Path, file: Path, code: str) -> None:
    name = f"broken_{len(code)}"
    package(site, name, code, {"nightmill.checks": {name: "Odd"}}, "0.1")
    [problem] = refusals(load_file_types, [types(tmp_path, f"    checks:\n      {name}: {{}}\n")])
    assert problem.startswith(f"types.yaml:5: file_types.notes.checks.{name}: check '{name}' of {name} 0.1 cannot be")
    assert problem.endswith("; mend that package, or uninstall it")
    assert isinstance(refusal(file, of(**{name: {}})), PluginFault)


def test_two_packages_that_offer_one_name(site: Path, tmp_path: Path, file: Path) -> None:
    package(site, "zeta_checks", CHECK, {"nightmill.checks": {"odd": "Odd"}, "nightmill.formats": {"fits": "Odd"}})
    [problem] = refusals(load_file_types, [types(tmp_path, "    checks:\n      odd: {}\n")])
    assert "'odd' is offered by acme_checks 2.1 and by zeta_checks 1.0; uninstall all" in problem
    assert "offered by" in str(refusal(file, of(odd={})))
    formats.open_format.cache_clear()
    assert "format 'fits' is offered by nightmill" in str(refusal(file, of("fits")))


def test_what_a_file_type_says_of_checks_is_what_an_order_says() -> None:
    plain = FileType.model_validate({"name": "a", "format": "fits", "checks": {"min_hdus": 2, "min_bytes": 1}})
    assert plain.model_dump_json(exclude_defaults=True) == '{"name":"a","format":"fits","checks":{"min_hdus":2}}'
    assert plain.model_dump(mode="json")["checks"] == {"min_bytes": 1, "min_hdus": 2, "checksum": "if_present"}
    further = of(finite={"max_fraction": 0.5}, odd={})
    told = further.model_dump_json(exclude_defaults=True)
    assert told == '{"name":"notes","checks":{"finite":{"max_fraction":0.5},"odd":{}}}'
    assert FileType.model_validate_json(told) == further
