"""What strace writes is read as it was meant, however names look, and however much it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sized

import pytest

from nightmill.execution.audit.calls import Call, Calls, End, Unreadable
from nightmill.execution.audit.traced import LISTED, Tally
from nightmill.execution.confine.landlock import READ, READ_DIR, RUN

W = b"AT_FDCWD</s/work>"
LINES = [
    (b'7 openat(%s, "a.txt", O_RDONLY) = 3</s/inputs/real>' % W, ("openat", ("/s/inputs/real",), "")),
    (b'7 openat(%s, "a.txt", O_RDONLY) = -1 ENOENT (No such file or directory)' % W, ("/s/work/a.txt", "ENOENT")),
    (b'7 openat(%s, "../../x", O_RDONLY) = -1 EACCES (Permission denied)' % W, ("/x", "EACCES")),
    (b'7 openat(4</d/e>(deleted), "f", O_RDONLY) = -1 ENOENT (No)', ("/d/e/f", "ENOENT")),
    (b'7 openat(%s, "a", O_RDONLY) = 3</s/work/a>(deleted)' % W, ("/s/work/a",)),
    (rb'7 open("q\"new\nline\74\76\377 \\", O_RDONLY) = -1 ENOENT (No)', ('/s/work/q"new\nline<>\udcff \\',)),
    (rb'7 open("x", O_RDONLY) = 3</s/q\"new\nline\74\76\377>', ('/s/q"new\nline<>\udcff',)),
    (b'7 openat(%s, "a) = 3", O_RDONLY) = 4</archive/a) = 5>' % W, ("/archive/a) = 5",)),
    (b'7 openat(%s, "a\\74/s\\76", O_RDONLY)   = 4</s/b>' % W, ("/s/b",)),
    (b'7 linkat(5</archive/f>, "", %s, "b", AT_EMPTY_PATH) = 0' % W, ("/archive/f", "/s/work/b")),
    (b'7 rename("a", "/b//c/../d") = 0', ("/s/work/a", "/b/d")),
    (b'7 renameat2(%s, "a", 9</x>, "y", RENAME_NOREPLACE) = 0' % W, ("/s/work/a", "/x/y")),
    (b"7 utimensat(3</archive/f>, NULL, NULL, 0) = 0", ("/archive/f",)),
    (b'7 execve("/bin/ls", [...], 0x7ffc /* 3 vars */) = 0', ("/bin/ls",)),
    (b'7 execveat(3</s/tool>, "", [...], 0x7ffc /* 3 vars */, AT_EMPTY_PATH) = 0', ("/s/tool",)),
    (b"7 pidfd_getfd(4<anon_inode:[pidfd]>, 3, 0) = 5</archive/f>", ("/archive/f",)),
    (b'7 openat(%s, "/proc/self/fd/1", O_WRONLY) = 5<pipe:[12]>' % W, ("pipe:[12]",)),
    (b"7 openat(%s, NULL, O_RDONLY) = -1 EFAULT (Bad address)" % W, ("/s/work", "EFAULT")),
    (b'7 openat(%s, "O_PATH", O_RDONLY) = 3</archive/O_PATH>' % W, ("/archive/O_PATH",)),
    (b'7 mkdir("x", 0777) = ?', ("/s/work/x", "?")),
    (b"7 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = -1 EACCES (Permission denied) (INJECTED)", ("AF_INET", "EACCES")),
]


def told(lines: Iterable[bytes], size: int = 1 << 16) -> list[Call | End]:
    calls, data = Calls("/s/work"), b"".join(line + b"\n" for line in lines)
    blocks = [data[place : place + size] for place in range(0, len(data), size)]
    return [each for block in blocks for each in calls.read(block)]


@pytest.mark.parametrize(("line", "expected"), LINES)
@pytest.mark.parametrize("size", [1, 1 << 16])
def test_a_line_is_read(line: bytes, expected: tuple[object, ...], size: int) -> None:
    [call] = told([line], size)
    assert isinstance(call, Call)
    seen = (call.name, call.paths, *call.paths, call.family, call.error)
    assert [each for each in expected if each not in seen] == []


def test_lines_of_several_processes_are_told_apart() -> None:
    lines = [
        b'7 openat(AT_FDCWD</s>, "a", O_RDONLY <unfinished ...>',
        b'8 chdir("/elsewhere") = 0',
        b"7 <... openat resumed>)         = 3</s/a>",
        b'8 open("b", O_RDONLY) = -1 ENOENT (No such file or directory)',
        b'7 open("c", O_RDONLY|O_PATH) = 4</s/c>',
        b'7 open("c", O_RDONLY) = -1 ENOENT (No)',
        b"8 +++ exited with 0 +++",
        b"9 +++ superseded by execve in pid 7 +++",
        b"7 +++ killed by SIGKILL +++",
    ]
    assert [each.paths if isinstance(each, Call) else each for each in told(lines)] == [
        ("/elsewhere",),
        ("/s/a",),
        ("/elsewhere/b",),
        ("/s/c",),
        End(8),
        End(7),
    ]


@pytest.mark.parametrize("line", [b"openat(1, 2) = 3", b"7 openat(1, 2", b'7 open("a = 3', b"7 nothing of the kind"])
def test_what_strace_does_not_write_is_refused(line: bytes) -> None:
    with pytest.raises(Unreadable):
        told([line])
    with pytest.raises(Unreadable):  # at once, though there are many ways to look at it
        told([b"7 open(" + b"x" * 10_000])
    with pytest.raises(Unreadable):
        list(Calls("/").read(b"7 open(" + b"x" * (1 << 17)))


def test_what_is_kept_does_not_grow_with_the_trace() -> None:
    tally, calls = Tally([("/usr", RUN)], "/s", ["/s/inputs/a"]), Calls("/s/work")
    for number in range(50_000):
        line = b'%d openat(AT_FDCWD</s/work>, "x", O_RDONLY) = 3</archive/%d>\n%d +++ exited with 0 +++\n'
        for each in calls.read(line % (number, number, number)):
            if isinstance(each, Call):
                tally.add(each)
    traced = tally.traced(whole=True)
    assert (len(traced.reached), traced.reached[:2]) == (LISTED, ("/archive/0", "/archive/1"))
    assert traced.more == 10_000, "beyond, nobody wants to know how many"
    kept = [len(each) for of in (tally, calls) for each in vars(of).values() if isinstance(each, Sized)]
    assert max(kept) <= 10_000


@pytest.mark.parametrize(
    ("line", "reached"),
    [
        (b'openat(%s, "x", O_RDONLY) = 3</s/inputs/a>', ()),
        (b'openat(%s, "x", O_RDWR) = -1 EACCES (Permission denied)', ()),
        (b'openat(%s, "/usr/x", O_RDWR) = -1 EROFS (Read-only)', ()),
        (b'openat(%s, "/usr/x", O_RDWR) = 3</usr/x>', ("/usr/x",)),
        (b'openat(%s, "/usr/x", O_RDONLY) = -1 ENOENT (No)', ()),
        (b'openat(%s, "/s/inputs/x", O_RDONLY) = -1 ENOENT (No)', ("/s/inputs/x",)),
        (b'openat(%s, "/listed", O_RDONLY|O_DIRECTORY) = 3</listed>', ()),
        (b'openat(%s, "/listed/x", O_RDONLY) = 3</listed/x>', ("/listed/x",)),
        (b'openat(%s, "/nowhere/x", O_RDONLY) = -1 ENOENT (No)', ("/nowhere/x",)),
        (b'openat(%s, "/proc/9/root/archive/x", O_RDONLY) = -1 EACCES (No)', ("/archive/x",)),
        (b'openat(%s, "/proc/self/root", O_RDONLY|O_DIRECTORY) = -1 EACCES (No)', ("/",)),
        (b'openat(%s, "/proc/9/environ", O_RDONLY) = -1 EACCES (No)', ("/proc/9/environ",)),
        (b'openat(%s, "/proc/7/environ", O_RDONLY) = 3</proc/7/environ>', ()),
        (b'openat(%s, "/dev/pts/1", O_RDWR) = 3</dev/pts/1>', ()),
        (b'execve("/searched/x", [...], 0x7 /* 3 vars */) = -1 ENOENT (No)', ()),
        (b'execve("/archive/x", [...], 0x7 /* 3 vars */) = -1 ENOENT (No)', ("/archive/x",)),
        (b'link("/archive/x", "y") = 0', ("/archive/x",)),
        (b'unlink("/archive/x") = -1 EROFS (Read-only)', ("/archive/x",)),
        (b'mount("/archive", "m", NULL, MS_BIND, NULL) = 0', ("/archive", "/s/work/m")),
        (b'mount("/archive", "m", NULL, MS_BIND, NULL) = -1 EPERM (No)', ()),
    ],
)
def test_what_counts_as_reached(line: bytes, reached: tuple[str, ...]) -> None:
    places = [("/usr", RUN), ("/proc", READ), ("/s/inputs", READ), ("/s/work", (1 << 16) - 1), ("/listed", READ_DIR)]
    tally = Tally(places, "/s", ["/s/inputs/a"], ["/searched"])
    for each in told([b"7 " + (line % W if b"%s" in line else line)]):
        assert isinstance(each, Call)
        tally.add(each)
    traced = tally.traced(whole=True)
    assert (*traced.reached, *traced.absent) == reached
    assert bool(traced.absent) is (b"inputs/x" in line)
    assert tally.traced(whole=True).opened == (frozenset(["/s/inputs/a"]) if b"inputs/a>" in line else frozenset())


def test_what_was_run_and_loaded_is_known() -> None:
    tally = Tally([("/", RUN)], "/s", [])
    names = [
        "/usr/lib/libz.so",
        "/usr/lib/libz.so.1.2",
        "/p/_x.cpython-311-x86_64-linux-gnu.so",
        "/p/not.so.txt~",
        "/p/so",
    ]
    lines = [b'7 openat(%s, "x", O_RDONLY) = 3<%s>' % (W, os.fsencode(name)) for name in names]
    for each in told([b'7 execve("/nobody/ran", [...], 0x7 /* 3 vars */) = 0', *lines]):
        assert isinstance(each, Call)
        tally.add(each)
    assert tally.traced(whole=True).libraries == ("/nobody/ran", *names[:3])
