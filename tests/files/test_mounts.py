"""What the kernel says of mounts, and what commands say that they depend on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nightmill.files.mounts import mounts_of, network_mount, on_network, paths_of

MOUNTINFO = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:44 / /sw rw,relatime shared:12 master:1 - nfs4 nas:/export/sw rw,vers=4.2
31 30 0:45 / /sw/local rw,relatime shared:13 - xfs /dev/vdb rw
32 27 0:46 / /afs rw - afs AFS rw
33 27 0:47 / /mnt/a\040share,\011x rw - cifs //nas/a\040share rw
34 27 0:48 / /cvmfs/survey rw - fuse.cvmfs2 cvmfs2 ro
35 27 0:49 / /bind rw - fuse /data rw
36 27 0:50 / /usb rw - fuseblk /dev/sdb1 rw
37 27 0:51 / /over rw - nfs nas:/old rw
38 27 0:52 / /over rw - tmpfs tmpfs rw
39 27 0:53 / /caf\303\251 rw - 9p host rw
a line of another kernel
"""
MOUNTS = mounts_of(MOUNTINFO)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/sw/bin/tool", "/sw (nfs4, nas:/export/sw)"),
        ("/sw", "/sw (nfs4, nas:/export/sw)"),
        ("/swap/x", None),
        ("/sw/local/bin", None),
        ("/sw/local/../bin", "/sw (nfs4, nas:/export/sw)"),
        ("/afs/cern.ch/user", "/afs (afs, AFS)"),
        ("/mnt/a share,\tx/y", "/mnt/a share,\tx (cifs, //nas/a share)"),
        ("/cvmfs/survey/sw", "/cvmfs/survey (fuse.cvmfs2, cvmfs2)"),
        ("/bind/x", "/bind (fuse, /data)"),
        ("/usb/x", None),
        ("/over/x", None),
        ("/café/x", "/café (9p, host)"),
        ("/usr/bin", None),
    ],
)
def test_a_path_lies_on_the_mount_that_is_seen_there(path: str, told: str | None) -> None:
    mount = network_mount(Path(path), MOUNTS)
    assert (None if mount is None else str(mount)) == told


def test_a_link_counts_where_it_lies_and_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/sw/bin")
    mounts = mounts_of(f"{MOUNTINFO}40 27 0:54 / {tmp_path / 'far'} rw - nfs nas:/far rw\n")
    (tmp_path / "far").symlink_to("/usr")
    for name, kind in (("out", "nfs4"), ("far", "nfs")):
        mount = network_mount(tmp_path / name, mounts)
        assert mount is not None
        assert mount.kind == kind


def test_what_this_host_says_is_understood() -> None:
    seen = mounts_of(Path("/proc/self/mountinfo").read_text())
    assert len(seen) == len(Path("/proc/self/mountinfo").read_text().splitlines())
    assert Path("/") in {mount.point for mount in seen}
    assert on_network([Path("/proc")]) == []


def test_what_a_command_depends_on(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d e", "lib"):
        (tmp_path / name).touch()
    (tmp_path / "tool").touch(mode=0o755)
    argv = (
        "tool",
        f"--out={tmp_path}/a",
        f"-I{tmp_path}/b",
        f"cat '{tmp_path}/c' >{tmp_path}/none; true",
        f"{tmp_path}/d e",
        "../inputs/usr",
        "s/usr/tmp/",
        "{pipeline_dir}/usr",
        "x" * 100_000,
        "/\0",
    )
    found = list(paths_of(argv, {"PATH": f"/nowhere:{tmp_path}", "LIBS": f"/none:{tmp_path}/lib"}))
    names = ["tool", "a", "b", "c", "d e", "lib"]
    assert [path for path in found if path.is_file()] == [tmp_path / name for name in names]
    assert list(paths_of((sys.executable, "-c", "1"), {})) == [Path(sys.executable), Path(sys.prefix)]
    assert list(paths_of(("no-such-program",), {})) == []
    assert list(paths_of(("./mine", "../x"), {})) == []
