"""Handwritten digits: 1,797 real ones of 8 x 8 pixels, a target far from any drawing and any photograph."""

from __future__ import annotations

from pathlib import Path

import xxhash
from PIL import Image

from underpaint.data.source import Record
from underpaint.data.splits import test_families

TEST_SHARE = 0.4


def prepare(images: Path) -> tuple[list[Record], str]:
    """Write every digit as a grey PNG into the folder ``images``; returns the records and the package's version."""
    import sklearn
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    family: dict[str, str] = {}
    label: dict[str, str] = {}
    for number, (row, digit) in enumerate(zip(pixels, digits, strict=True)):
        grey = (row.reshape(8, 8) * 255 / 16).round().astype("uint8")  # stored as 0 to 16
        path = f"images/{number:04}.png"
        Image.fromarray(grey).save(images / f"{number:04}.png")
        family[path], label[path] = xxhash.xxh3_64_hexdigest(grey.tobytes()), str(digit)
    tested = test_families({family[path]: label[path] for path in family}, share=TEST_SHARE)
    records = [
        Record(
            path=path,
            tags=(),
            label=label[path],
            family=family[path],
            splits=("test",) if family[path] in tested else ("train",),
            flip=False,
        )
        for path in family
    ]
    return records, sklearn.__version__
