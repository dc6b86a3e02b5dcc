"""How the content of two files differs, where their bytes do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_FITS: Final = b"SIMPLE  ="
FOLLOWING: Final = ("CHECKSUM", "DATASUM")
"""Keywords whose values follow from the rest."""
WRITTEN_AT: Final = ("DATE",)
"""Keywords that say when a file was written: they change always."""
_SHOWN: Final = 20
"""Differences of one header that are listed."""
_VALUE: Final = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class Tolerance:
    """By how much numbers may differ and count as the same.

    Parameters
    ----------
    relative
        As a fraction of the earlier value: of pixels, values of tables and of headers.
    columns
        The same for columns of tables of these names, whatever else holds.
    """

    relative: float = 0.0
    columns: Mapping[str, float] = field(default_factory=dict)

    def bears(self, before: object, after: object) -> bool:
        """Whether two values count as the same."""
        if isinstance(before, float) and isinstance(after, float):
            return math.isclose(before, after, rel_tol=self.relative)
        return before == after


EXACT: Final = Tolerance()


def content_differences(
    before: Path, after: Path, *, ignored: Collection[str] = (), tolerance: Tolerance = EXACT
) -> list[str] | None:
    """Say how the content of two FITS files differs, in the order of their HDUs.

    Values count, and no comments, nor how a number is written. NaN equals NaN.

    Parameters
    ----------
    ignored
        Keywords that do not count, beside checksums.
    tolerance
        By how much numbers may differ.

    Returns
    -------
    list of str
        A sentence a difference, empty where there is none; None where either of them cannot be read as FITS, so that
        their bytes alone can be compared.
    """
    if not (_is_fits(before) and _is_fits(after)):
        return None
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of what is not standard: both files have passed the gate or are compared as is
        try:
            diff = fits.FITSDiff(
                str(before),
                str(after),
                ignore_keywords=[*FOLLOWING, *ignored],
                ignore_comments=["*"],
                ignore_fields=list(tolerance.columns),
                numdiffs=0,
                rtol=tolerance.relative,
            )
            apart = list(_columns_apart(before, after, tolerance.columns))
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, fits.VerifyError):
            return None  # what astropy raises of a file that it cannot read depends on where it fails
        return apart if diff.identical else [*_told(diff, before, after), *apart]


def _is_fits(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_FITS)) == _FITS


def _told(diff: Any, before: Path, after: Path) -> Iterator[str]:
    if diff.diff_hdu_count:
        yield "HDUs: {}, now {}".format(*diff.diff_hdu_count)
    for place, hdu, *_names in diff.diff_hdus:
        for text in _of_hdu(hdu, before, after, place):
            yield f"HDU {place}: {text}"


def _columns_apart(before: Path, after: Path, columns: Mapping[str, float]) -> Iterator[str]:
    """Say which columns that have a tolerance of their own differ by more, in tables that both files have."""
    if not columns:
        return
    import numpy as np
    from astropy.io import fits

    with fits.open(before) as one, fits.open(after) as other:
        for place, (left, right) in enumerate(zip(one, other, strict=False)):
            if not (isinstance(left, fits.BinTableHDU) and isinstance(right, fits.BinTableHDU)):
                continue
            for name, relative in columns.items():
                old, new = _column(left, name), _column(right, name)
                if old is None or new is None:
                    if old is not new:
                        yield f"HDU {place}: column {name}: now {'added' if old is None else 'gone'}"
                elif old.shape != new.shape or old.dtype.kind not in "iuf" or new.dtype.kind not in "iuf":
                    if not np.array_equal(old, new):
                        yield f"HDU {place}: column {name} differs"
                elif count := int((~np.isclose(new, old, rtol=relative, atol=0.0, equal_nan=True)).sum()):
                    yield f"HDU {place}: {count:,} values of column {name} differ by over {relative:g} of them"


def _column(table: Any, name: str) -> Any:
    own = next((each for each in table.columns.names if each.lower() == name.lower()), None)
    return None if own is None else table.data[own]


def _of_hdu(hdu: Any, before: Path, after: Path, place: int) -> Iterator[str]:
    for what in ("extname", "extver", "extlevel", "extension_types"):
        if pair := getattr(hdu, f"diff_{what}", ()):
            yield f"{what.removesuffix('s').replace('_', ' ')}: {_short(pair[0])}, now {_short(pair[1])}"
    if hdu.diff_headers is not None and not hdu.diff_headers.identical:
        lines = list(_of_header(hdu.diff_headers))
        yield from lines[:_SHOWN]
        if len(lines) > _SHOWN:
            yield f"and {len(lines) - _SHOWN} more keywords differ"
    if hdu.diff_data is not None and not hdu.diff_data.identical:
        yield from _of_data(hdu.diff_data, before, after, place)


def _of_header(header: Any) -> Iterator[str]:
    for keyword, pairs in sorted(header.diff_keyword_values.items()):
        for one, other in [pair for pair in pairs if pair is not None]:
            yield f"{keyword}: {_short(one)}, now {_short(other)}"
    gone, added = header.diff_keywords or ((), ())
    yield from (f"{keyword}: now gone" for keyword in sorted(gone))
    yield from (f"{keyword}: now added" for keyword in sorted(added))
    for keyword, counts in sorted(header.diff_duplicate_keywords.items()):
        yield f"{keyword}: {counts[0]} times, now {counts[1]}"


def _of_data(data: Any, before: Path, after: Path, place: int) -> Iterator[str]:
    if dimensions := getattr(data, "diff_dimensions", ()):
        yield f"shape: {_short(dimensions[0])}, now {_short(dimensions[1])}"
        return
    if hasattr(data, "diff_column_count"):
        if data.diff_column_count:
            yield "columns: {}, now {}".format(*data.diff_column_count)
        if data.diff_rows:
            yield "rows: {}, now {}".format(*data.diff_rows)
        gone, added = data.diff_column_names or ((), ())
        yield from (f"column {name}: now gone" for name in sorted(gone))
        yield from (f"column {name}: now added" for name in sorted(added))
        if data.diff_total:
            yield f"{data.diff_total:,} values of its table differ"
        return
    if data.diff_total:
        yield f"{data.diff_total:,} pixels differ ({data.diff_ratio:.3%}){_largest(before, after, place)}"


def _largest(before: Path, after: Path, place: int) -> str:
    """Say by how much pixels differ at most, where both are numbers; of NaN in one of them alone nothing is known."""
    import numpy as np
    from astropy.io import fits

    with fits.open(before) as one, fits.open(after) as other:
        left, right = one[place].data, other[place].data
        if left is None or right is None or left.dtype.kind not in "iuf" or right.dtype.kind not in "iuf":
            return ""
        largest = 0.0
        finite = False
        for row, new in zip(np.atleast_2d(left), np.atleast_2d(right), strict=True):
            apart = np.abs(new.astype(float) - row.astype(float))
            apart = apart[np.isfinite(apart)]
            if apart.size:
                largest, finite = max(largest, float(apart.max())), True
    return f", by {largest:.6g} at most" if finite else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 3]}..."
