"""Orders with outputs that tell what they are."""

from __future__ import annotations

from typing import Any

from nightmill.model.file_type import FileType, Membership, MetadataKey
from nightmill.model.order import JobOrder, OrderOutput, OrderStep
from tests.support.orders import FILE_TYPES, Bench, output

TYPES = {
    **FILE_TYPES,
    "head": FileType(
        name="head",
        metadata={
            "exposure": MetadataKey(type="int", told=True, required=True),
            "tile": MetadataKey(told=True),
            "rms": MetadataKey(type="float", told=True, max=1.0),
            "good": MetadataKey(type="bool", told=True),
            "taken_at": MetadataKey(type="time", told=True),
        },
    ),
    "pairs": FileType(
        name="pairs", membership=Membership(columns={"pair": "int", "plus": "str", "weight": "float"}, told=True)
    ),
    "product": FileType(
        name="product",
        format="fits",
        metadata={
            "pro_catg": MetadataKey(keywords=("HIERARCH ESO PRO CATG",), required=True),
            "exposure": MetadataKey(keywords=("EXPNUM",), type="int"),
            "chip": MetadataKey(keywords=("CHIP",), type="int"),
            "label": MetadataKey(compute="concat('x', pro_catg)"),
        },
    ),
}
WRITE = (
    "from astropy.io import fits\n"
    "def write(name, catg=None, **cards):\n"
    "    header = fits.Header()\n"
    "    if catg: header['HIERARCH ESO PRO CATG'] = catg\n"
    "    header.update(cards)\n"
    "    fits.PrimaryHDU(header=header).writeto(name)\n"
)


def told(role: str, **changes: Any) -> OrderOutput:
    """Make an output whose files tell their exposure."""
    values: dict[str, Any] = {
        "type": "head",
        "produces": "*.head",
        "tells": ("exposure",),
        "open_name": f"{role}_{{exposure:06d}}_c0001a01.head",
        "max": 5,
        "data_id": {"detector": 3},
    }
    return output(role, **{**values, **changes})


def product(role: str, catg: str, **changes: Any) -> OrderOutput:
    """Make an output that is told from others of the same glob by what its header says."""
    values: dict[str, Any] = {
        "type": "product",
        "produces": "*.fits",
        "where": f"pro_catg == '{catg}'",
        "data_id": {"detector": 3},
    }
    return output(role, f"{role}.fits", **{**values, **changes})


def order_of(bench: Bench, *steps: OrderStep) -> JobOrder:
    """Make an order of the types above."""
    return bench.order(*steps).model_copy(update={"file_types": TYPES})
