"""Image files as bytes."""

from __future__ import annotations

import io
import zlib
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(number: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """Pixels of (height, width), others for each number."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3)).astype(np.uint8)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def xmp_png(content: bytes, tags: tuple[str, ...]) -> bytes:
    """The same pixels as PNG, with XMP as Lightroom and digiKam write it."""
    items = "".join(f"<rdf:li>{escape(tag)}</rdf:li>" for tag in tags)
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet)
    with Image.open(io.BytesIO(content)) as image:
        return encoded(image, pnginfo=info)
