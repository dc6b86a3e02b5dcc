"""Packing a folder: what decides the digest, what is refused, and that nothing in an archive leads elsewhere."""

from __future__ import annotations

import io
import os
import random
import socket
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nightmill.errors import BadFile, RequestRefused
from nightmill.files import packing
from nightmill.files.archive import read_manifest, unpack
from nightmill.files.packing import pack_folder
from nightmill.model.bundle import compare
from nightmill.model.pipeline import BundleRules

EVERYTHING = BundleRules()
NAMES = st.text("abcé ü", min_size=1, max_size=3).filter(lambda name: name.strip() == name)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.tuples(st.binary(max_size=40), st.booleans()), min_size=1, max_size=6).filter(
    lambda tree: not any(other.startswith(f"{path}/") for path in tree for other in tree)
)
Tree = dict[str, tuple[bytes, bool]]


def write(folder: Path, tree: Tree, *, seed: int = 0, umask: int = 0o022) -> None:
    """Make the files of a tree in some order, at some time, under some umask."""
    chance = random.Random(seed)
    paths = sorted(tree)
    chance.shuffle(paths)
    before = os.umask(umask)
    try:
        for path in paths:
            content, executable = tree[path]
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if executable:
                target.chmod(target.stat().st_mode | 0o100)
            os.utime(target, (chance.randrange(10**9), chance.randrange(10**9)))
    finally:
        os.umask(before)


def digest_of(tree: Tree, *, seed: int = 0, umask: int = 0o022) -> str:
    with TemporaryDirectory() as folder:
        write(Path(folder), tree, seed=seed, umask=umask)
        return pack_folder(Path(folder), EVERYTHING)[0]


@given(TREES, st.integers(1, 99), st.sampled_from([0o022, 0o077, 0o007]))
def test_the_same_files_give_the_same_digest(tree: Tree, seed: int, umask: int) -> None:
    assert digest_of(tree) == digest_of(tree, seed=seed, umask=umask)


@given(TREES, st.data())
def test_other_files_give_another_digest(tree: Tree, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(tree)))
    content, executable = tree[path]
    rest = {name: each for name, each in tree.items() if name != path}
    other: Tree = data.draw(
        st.sampled_from(
            [
                rest | {path: (content + b"x", executable)},
                rest | {path: (content, not executable)},
                rest | {f"{path}x": (content, executable)},
                tree | {f"{path}y": (b"", False)},
            ]
        )
    )
    assume(other != tree)
    assert digest_of(tree) != digest_of(other)


@given(TREES)
def test_what_is_unpacked_is_what_was_packed(tree: Tree) -> None:
    with TemporaryDirectory() as folder:
        write(Path(folder, "source"), tree)
        archive = io.BytesIO()
        _digest, size_bytes, files = pack_folder(Path(folder, "source"), EVERYTHING, target=archive)
        assert size_bytes == len(archive.getvalue())
        assert read_manifest(archive) == files == unpack(archive, Path(folder, "target"))
        there = {
            str(path.relative_to(Path(folder, "target"))): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
            for path in Path(folder, "target").rglob("*")
            if path.is_file()
        }
        assert there == tree


def test_modes_of_what_is_unpacked_let_nobody_write(tmp_path: Path) -> None:
    write(tmp_path / "source", {"step.py": (b"1", False), "bin/run": (b"2", True)})
    archive = io.BytesIO()
    pack_folder(tmp_path / "source", EVERYTHING, target=archive)
    unpack(archive, tmp_path / "target")
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "target", *(tmp_path / "target").rglob("*")]
    }
    assert modes == {"target": 0o555, "step.py": 0o444, "bin": 0o555, "run": 0o555}


def packed(folder: Path, rules: BundleRules = EVERYTHING, **options: object) -> list[str]:
    """Return the paths that are packed."""
    return [file.path for file in pack_folder(folder, rules, **options)[2]]  # type: ignore[arg-type]


def test_what_tools_leave_campaigns_and_sites_are_not_packed(tmp_path: Path) -> None:
    there = (
        "pipeline.yaml", "step.py", "lib/util.py", ".git/HEAD", "lib/__pycache__/util.cpython-311.pyc", "step.py~",
        ".step.py.swp", ".pytest_cache/x", "nightmill.yaml", "other/nightmill.yaml", "other/spool/journal", "store/f",
    )  # fmt: skip
    write(tmp_path, dict.fromkeys(there, (b"x", False)))
    (tmp_path / "night1.yaml").write_text("# tonight\ncampaign: night1\npipeline: pipeline.yaml\n")
    found = packed(tmp_path, apart={os.path.realpath(tmp_path / "store")})
    assert found == ["lib/util.py", "pipeline.yaml", "step.py"]


def test_patterns_take_and_leave_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("p.yaml", "steps/a.py", "steps/old/b.py", "data/c.fits", "d.fits"), (b"x", False)))
    assert packed(tmp_path, BundleRules(exclude=("data/", "*.yaml"))) == ["d.fits", "steps/a.py", "steps/old/b.py"]
    assert packed(tmp_path, BundleRules(include=("steps", "*.yaml"), exclude=("steps/old",))) == [
        "p.yaml",
        "steps/a.py",
    ]
    assert packed(tmp_path, BundleRules(include=("data/*.fits",))) == ["data/c.fits"]


def test_a_link_to_a_file_that_is_packed_is_a_copy(tmp_path: Path) -> None:
    write(tmp_path, {"steps/a.py": (b"print()", True)})
    (tmp_path / "b.py").symlink_to("steps/a.py")
    first, second = pack_folder(tmp_path, EVERYTHING)[2]
    assert (first.path, first.sha256, first.executable) == ("b.py", second.sha256, True)


def test_everything_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    write(folder, {"a.py": (b"x", False), ".git/HEAD": (b"x", False)})
    (tmp_path / "secret").write_text("s")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "above").symlink_to("../p2")
    (folder / "hidden").symlink_to(".git/HEAD")
    (folder / "lib").symlink_to(".git")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "bad\nname").write_text("x")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s"))
        with pytest.raises(RequestRefused) as error:
            pack_folder(folder, EVERYTHING)
    said = str(error.value)
    for expected in (
        f"out is a link that leads out of the folder, to {tmp_path / 'secret'}",
        f"above is a link that leads out of the folder, to {tmp_path / 'p2'}",
        "hidden is a link to .git/HEAD, which is not a file that is packed",
        "lib is a link to .git, which is not",
        "gone is a link to nowhere, which is not",
        "pipe is not a file but a FIFO",
        "s is not a file but a socket",
        "'bad\\nname': control characters",
        "leave such files out with 'bundle.exclude'",
    ):
        assert expected in said
    assert packed(folder, BundleRules(exclude=("out", "above", "hidden", "lib", "gone", "pipe", "bad*", "s"))) == [
        "a.py"
    ]


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"small.py": (b"x", False), "data/large.fits": (b"x" * 900_000, False), "l.dat": (b"x" * 200_000, False)},
    )
    with pytest.raises(RequestRefused, match=r"has 1\.1 MB in 3 files.*at most 1 MB.*") as error:
        pack_folder(tmp_path, BundleRules(max_mb=1))
    assert "- data/large.fits: 0.9 MB\n  - l.dat: 0.2 MB" in str(error.value)
    assert "'bundle.exclude'" in str(error.value)
    assert "'bundle.max_mb'" in str(error.value)
    assert packed(tmp_path, BundleRules(max_mb=1, exclude=("data",))) == ["l.dat", "small.py"]


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_FILES", 3)
    write(tmp_path, {f"f{number}": (b"", False) for number in range(4)})
    with pytest.raises(RequestRefused, match="has more than 3 files, 'f"):
        pack_folder(tmp_path, EVERYTHING)


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced"])
def test_a_file_that_changes_while_it_is_packed_is_noticed(tmp_path: Path, change: str) -> None:
    write(tmp_path, {"a.py": (b"a", False), "z.py": (b"z" * 5000, False)})

    class Meddler(io.BytesIO):
        def write(self, data: object) -> int:
            if change == "is replaced":
                (tmp_path / "new").write_bytes(b"y" * 5000)
                (tmp_path / "new").replace(tmp_path / "z.py")
            else:
                (tmp_path / "z.py").write_bytes(b"z" * (9000 if change == "grows" else 10))
            return super().write(data)  # type: ignore[arg-type]

    with pytest.raises(RequestRefused, match=r"z\.py was changed while it was packed"):
        pack_folder(tmp_path, EVERYTHING, target=Meddler())


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"pipeline's folder .*/gone cannot be packed: .*No such file"):
        pack_folder(tmp_path / "gone", EVERYTHING)


def member(name: str, **changes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/x"), member("../x"), member("a/../../x"), member("a//b"), member("./a"),
        member("l", type=tarfile.SYMTYPE, linkname="/etc"), member("l", type=tarfile.LNKTYPE, linkname="ok"),
        member("d", type=tarfile.DIRTYPE), member("f", type=tarfile.FIFOTYPE), member("ok"),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)  # fmt: skip
def test_nothing_in_an_archive_leads_elsewhere(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(member("ok"), io.BytesIO())
        tar.addfile(bad, io.BytesIO())
    with pytest.raises(BadFile, match="which cannot be unpacked"):
        unpack(archive, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ok", "target"]


def test_two_manifests_are_compared(tmp_path: Path) -> None:
    write(tmp_path / "a", {"same": (b"1", False), "bytes": (b"1", False), "mode": (b"1", False), "old": (b"", False)})
    write(tmp_path / "b", {"same": (b"1", False), "bytes": (b"2", False), "mode": (b"1", True), "new": (b"", False)})
    found = compare(pack_folder(tmp_path / "a", EVERYTHING)[2], pack_folder(tmp_path / "b", EVERYTHING)[2])
    assert (found.added, found.changed, found.removed) == (("new",), ("bytes", "mode"), ("old",))
    assert found
    assert not compare([], [])
