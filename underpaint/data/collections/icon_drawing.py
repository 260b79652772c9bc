"""Drawing of icons: SVG of strangers is checked, drawn without files or network, and given two colours.

An SVG may hold known shapes, groups, gradients, masks and references within itself, in bounded numbers. Anything else
(entities, links, text, scripts, images, animations, filters) is refused, so nothing outside the SVG is ever read.
"""

from __future__ import annotations

import io
import re
from xml.parsers import expat

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from underpaint import keyed_random
from underpaint.data.collections.icon_sets import Icon
from underpaint.data.decode.limits import BadImage

SIDE = 96
"""Longer side of a drawing in pixels; a PNG of this size mostly fits into one block of a disk, of 4 kB."""

WHITE_SHARE = 0.5
"""Share of icons in one colour that are drawn on white, as the drawings of the other collections are."""
CONTRAST = 3.0
"""Smallest ratio of the luminances of an icon and its ground, as WCAG 2.2 asks for graphics (1.4.11)."""

FAINTEST = 240
"""Value of the darkest pixel, in any channel, above which a drawing shows nothing on white."""
MAX_BYTES = 64 * 1024
MAX_ELEMENTS = 1000
MAX_DEPTH = 32
MAX_REFERENCES = 24
"""Largest number of uses, masks and clips: nested, these multiply the work by at most 3^(24/3) = 6,561."""
MAX_BOX = 10_000
MAX_RATIO = 4
"""Largest ratio of the longer side to the shorter one."""

# fmt: off
_ELEMENTS = frozenset((
    "svg", "g", "path", "circle", "ellipse", "rect", "line", "polygon", "polyline", "defs", "linearGradient",
    "radialGradient", "stop", "mask", "clipPath", "use", "symbol",
))
# fmt: on
_REFERRING = ("mask", "clip-path")
_URL = re.compile(r"url\s*\(", re.IGNORECASE)
_INNER_URL = re.compile(r"url\(['\"]?#[^)]*\)")

Colour = tuple[int, int, int]


def draw(icon: Icon, *, coloured: bool) -> Image.Image:
    """The icon on white as an RGB image, black where it has no colours.

    Raises:
        BadImage: if the SVG has elements, sizes or references that are not accepted, or shows nothing.
    """
    import resvg_py

    svg, width, height = checked_svg(icon)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg, width=width, height=height, background="#ffffff", skip_system_fonts=True
        )
    except ValueError as error:
        raise BadImage(f"the renderer refuses it: {error}") from error
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB" if coloured else "L").convert("RGB")
    if int(np.asarray(image).min()) > FAINTEST:
        raise BadImage("nothing is seen of it on white")
    return image


def checked_svg(icon: Icon) -> tuple[str, int, int]:
    """The SVG with its width and height in pixels; raises BadImage where it is not accepted."""
    left, top, width, height = icon.box
    if not (0 < width <= MAX_BOX and 0 < height <= MAX_BOX and abs(left) <= MAX_BOX and abs(top) <= MAX_BOX):
        raise BadImage(f"its box of {width:g} x {height:g} at {left:g}, {top:g} is not accepted")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadImage(f"its box of {width:g} x {height:g} is too thin")
    scale = SIDE / max(width, height)
    wide, high = round(width * scale), round(height * scale)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
        f'width="{wide}" height="{high}" viewBox="{left:g} {top:g} {width:g} {height:g}">{icon.body}</svg>'
    )
    _Check().of(svg)
    return svg, wide, high


class _Check:
    """A pass over the elements of an SVG that refuses all but known ones."""

    def __init__(self) -> None:
        self._elements = self._depth = self._references = 0

    def of(self, svg: str) -> None:
        content = svg.encode(errors="replace")
        if len(content) > MAX_BYTES:
            raise BadImage(f"it has {len(content)} bytes; at most {MAX_BYTES} are accepted")
        parser = expat.ParserCreate(encoding="utf-8")
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.StartDoctypeDeclHandler = self._refuse
        parser.ProcessingInstructionHandler = self._refuse
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise BadImage(f"it is not well-formed XML: {error}") from error

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        if tag not in _ELEMENTS:
            raise BadImage(f"it has an element <{tag[:32]}>, which is not accepted")
        if self._elements > MAX_ELEMENTS or self._depth > MAX_DEPTH:
            raise BadImage(f"it has more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} inside each other")
        self._references += (tag == "use") + sum(name in attributes for name in _REFERRING)
        for name, value in attributes.items():
            local = name.rpartition(":")[2].lower()
            if (local == "href" and not value.startswith("#")) or local.startswith("on"):
                raise BadImage(f"its attribute {name[:32]} leads out of it")
            if len(_URL.findall(value)) != len(_INNER_URL.findall(value)):
                raise BadImage(f"its attribute {name[:32]} leads out of it")
            self._references += local == "style" and ("mask" in value or "clip" in value)
        if self._references > MAX_REFERENCES:
            raise BadImage(f"it has more than {MAX_REFERENCES} uses, masks and clips")

    def _end(self, _: str) -> None:
        self._depth -= 1

    def _refuse(self, *_: object) -> None:
        raise BadImage("it has a document type or a processing instruction")


def colours(name: str) -> tuple[Colour, Colour]:
    """The colours of an icon and of its ground, drawn by its name, of at least CONTRAST; half of grounds are white."""
    key = keyed_random.key("icon colours", name)
    white = keyed_random.mix(key, 0) < WHITE_SHARE * 2**64
    for counter in range(1, 1000):
        bits = keyed_random.mix(key, counter)
        ink: Colour = (bits & 255, bits >> 8 & 255, bits >> 16 & 255)
        ground: Colour = (255, 255, 255) if white else (bits >> 24 & 255, bits >> 32 & 255, bits >> 40 & 255)
        if contrast(ink, ground) >= CONTRAST:
            return ink, ground
    return (0, 0, 0), (255, 255, 255)


def contrast(first: Colour, second: Colour) -> float:
    """The contrast ratio of two sRGB colours by WCAG 2.2, from 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def recoloured(image: Image.Image, ink: Colour, ground: Colour) -> Image.Image:
    """A drawing in black on white with ``ink`` for black and ``ground`` for white."""
    grey = np.arange(256) / 255
    shades = [
        (dark * (1 - grey) + light * grey).round().astype(int).tolist() for dark, light in zip(ink, ground, strict=True)
    ]
    return Image.merge("RGB", [image.getchannel(0).point(table) for table in shades])


def png_bytes(image: Image.Image) -> bytes:
    """The image as PNG; a level of compression above 3 takes 50% longer for 5% fewer bytes."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=3)
    return out.getvalue()


def small_png(image: Image.Image) -> bytes:
    """The image at half the size as PNG, by which near duplicates are found in half the time."""
    out = io.BytesIO()
    image.reduce(2).save(out, "PNG", compress_level=0)
    return out.getvalue()


def in_black(image: UInt8[np.ndarray, "h w 3"], ink: Colour, ground: Colour) -> UInt8[np.ndarray, "h w"]:
    """The drawing in black on white that ``recoloured`` was given, up to rounding."""
    channel = int(np.argmax(np.abs(np.subtract(ink, ground))))
    share = (image[:, :, channel].astype(np.float64) - ink[channel]) / (ground[channel] - ink[channel])
    return (share * 255).round().clip(0, 255).astype(np.uint8)


def _luminance(colour: Colour) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
