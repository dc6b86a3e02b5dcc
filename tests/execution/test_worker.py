"""A worker by itself: orders and a profile in, a journal out; no site, no database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.config.secrets import read_secrets
from nightmill.errors import ConfigError
from nightmill.execution.journal import read_journal
from nightmill.execution.worker import main
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder
from nightmill.model.store import Store
from tests.support.orders import Bench, output, python, shell

TELL = """
import os, pathlib
pathlib.Path("told.txt").write_text(f"{dict(os.environ)} {os.listdir('/proc/self/fd')}")
"""


def copying(bench: Bench, number: int = 1) -> JobOrder:
    """Make an order of one step that writes a text."""
    name = f"made{number}.txt"
    return bench.order(shell("write", f"echo done > {name}", output("made", name)), number=number)


@pytest.fixture
def profile(bench: Bench, tmp_path: Path) -> Path:
    """Write the profile of this host."""
    file = tmp_path / "profile.json"
    file.write_text(NodeProfile(scratch=bench.scratch, spool=bench.spool).model_dump_json())
    return file


def write(orders: list[JobOrder], file: Path) -> str:
    file.write_text("".join(f"{order.model_dump_json()}\n" for order in orders))
    return str(file)


def test_orders_and_a_profile_in_a_journal_out(bench: Bench, profile: Path, tmp_path: Path) -> None:
    orders = write([copying(bench, number) for number in (1, 2)], tmp_path / "orders.jsonl")
    argv = [sys.executable, "-m", "nightmill.execution.worker", orders, "--profile", str(profile)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, "")
    journal = read_journal(Path(done.stdout.strip()))
    assert [entry.state for entry in journal.entries if entry.entry == "done"] == ["published"] * 2


def test_neither_sqlalchemy_nor_prefect_is_imported() -> None:
    code = "import sys, nightmill.execution.worker; print({'prefect', 'sqlalchemy', 'alembic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scratch": None}, "profile.json: this is not a profile of a host: scratch: "),
        ({"schema_version": 2}, "profile.json: this is not a profile of a host: schema_version: "),
        ({"colour": "red"}, "profile.json: this is not a profile of a host: colour: "),
    ],
)
def test_a_profile_that_is_wrong_is_refused_by_its_key(
    bench: Bench,
    profile: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    said: str,
) -> None:
    profile.write_text(json.dumps(json.loads(profile.read_text()) | change))
    assert main([write([copying(bench)], tmp_path / "orders.jsonl"), "--profile", str(profile)]) == 2
    assert said in capsys.readouterr().err
    assert bench.stored() == []


def test_a_line_that_is_not_an_order_is_refused_before_anything_is_begun(
    bench: Bench, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "orders.jsonl"
    write([copying(bench)], file)
    with file.open("a") as orders:
        orders.write('{"version": 1}\n')
    assert main([str(file), "--profile", str(profile)]) == 2
    assert "orders.jsonl:2: this is not an order: attempt: Field required" in capsys.readouterr().err
    assert bench.stored() == []


def test_a_secret_comes_by_a_descriptor_and_no_step_has_it(bench: Bench, profile: Path, tmp_path: Path) -> None:
    order = bench.order(python("tell", TELL, output("told", "told.txt")))
    stores = {**order.stores, "backbone": Store(name="backbone", url="${WHERE}")}
    lines = write([order.model_copy(update={"stores": stores})], tmp_path / "orders.jsonl")
    argv = [sys.executable, "-m", "nightmill.execution.worker", lines, "--profile", str(profile)]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 2, "it does not know where"
    reading, writing = os.pipe()
    os.write(writing, f"WHERE={bench.stores['backbone'].url}\n".encode())
    os.close(writing)
    argv += ["--secrets-fd", str(reading)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=[reading])
    os.close(reading)
    assert (done.returncode, done.stderr) == (0, "")
    told = (bench.root / "stores/backbone/products/told.txt").read_text()
    assert "PATH" in told
    assert "WHERE" not in told
    assert str(reading) not in told.rpartition("[")[2]


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_of_secrets_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "secrets"
    file.write_text("KEY=value\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"others than its owner can read it, .*; chmod 600 {file}"):
        read_secrets(file)


def test_a_file_of_secrets_has_a_name_and_a_value_a_line(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("# of the archive\n\nKEY= a=b \nURL=s3://x\n")
    file.chmod(0o600)
    assert read_secrets(file) == {"KEY": " a=b ", "URL": "s3://x"}
    file.write_text("KEY=value\nnonsense\n")
    with pytest.raises(ConfigError, match=r"secrets:2: the line is not NAME=VALUE"):
        read_secrets(file)
