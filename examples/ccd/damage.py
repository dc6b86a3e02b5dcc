"""Damage a file as a failing disk does, and mend it again.

``python -m examples.ccd.damage FILE`` turns one bit in the middle of the file; size and times stay as they were. The
same command once more turns it back.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def flip_bit(path: Path) -> None:
    """Turn one bit in the middle of a file.

    The damaged copy takes the file's place, so that other hard links keep the old bytes.
    """
    data, facts = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 0b1000
    copy = path.with_name(f".{path.name}.damaged")
    copy.write_bytes(data)
    copy.chmod(facts.st_mode)
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    copy.replace(path)


def main() -> None:
    """Damage or mend files from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.ccd.damage", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    for path in parser.parse_args().files:
        flip_bit(path)


if __name__ == "__main__":
    main()
