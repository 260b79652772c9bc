"""Packets in the containers besides JPEG, against the writers of ExifTool, Exiv2, libavif and libheif."""

from __future__ import annotations

import io
import time
import zlib
from pathlib import Path

import pyexiv2
import pytest
from PIL import Image

from support.image_files import encoded, png_chunk
from underpaint.data.decode.embedded_tags import embedded_tags
from underpaint.data.decode.packets import MAX_PACKET_BYTES
from underpaint.data.decode.packets_of_gif import TRAILER

EXIFTOOL = Path(__file__).parent / "embedded"
WORDS = ("brown bear", "北京")
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>'
    f"{''.join(f'<rdf:li>{word}</rdf:li>' for word in WORDS)}"
    "</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
).encode()
OWL = b"\x1c\x02\x19\0\x03owl"
RESOURCE = b"8BIM\x04\x04\0\0" + len(OWL).to_bytes(4, "big") + OWL


def raw_profile(name: str, content: bytes, *, kind: bytes = b"tEXt", stated: int | None = None) -> bytes:
    """As ImageMagick's ``coders/png.c`` writes it: 36 bytes a line."""
    lines = [content[start : start + 36].hex() for start in range(0, len(content), 36)]
    text = f"\n{name}\n{len(content) if stated is None else stated:8}\n{chr(10).join(lines)}\n".encode()
    packed = {b"tEXt": text, b"zTXt": b"\0" + zlib.compress(text), b"iTXt": b"\0\0\0\0" + text}[kind]
    return png_chunk(kind, f"Raw profile type {name}".encode() + b"\0" + packed)


def png(*chunks: bytes) -> bytes:
    plain = encoded(Image.new("RGB", (8, 8), "teal"))
    return plain[:33] + b"".join(chunks) + plain[33:]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize(
    ("name", "content", "tags"),
    [
        ("xmp", PACKET, WORDS),
        ("APP1", b"http://ns.adobe.com/xap/1.0/\0" + PACKET, WORDS),
        ("APP1", b"Exif\0\0II*\0", ()),
        ("iptc", RESOURCE, ("owl",)),
        ("iptc", OWL, ("owl",)),
        ("8bim", b"Photoshop 3.0\0" + RESOURCE, ("owl",)),
        ("exif", PACKET, ()),
    ],
)
def test_raw_profiles_of_a_png_are_read(name: str, content: bytes, tags: tuple[str, ...], kind: bytes) -> None:
    embedded = embedded_tags(png(raw_profile(name, content, kind=kind)))
    assert (embedded.tags, embedded.refused) == (tags, ())


def test_raw_profiles_are_read_as_exiv2_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(png(raw_profile("iptc", RESOURCE, kind=b"zTXt"), raw_profile("xmp", PACKET, kind=b"zTXt")))
    with pyexiv2.Image(str(file)) as image:
        expected = [*image.read_xmp()["Xmp.dc.subject"], *image.read_iptc()["Iptc.Application2.Keywords"]]
    assert list(embedded_tags(file.read_bytes()).tags) == expected == [*WORDS, "owl"]


def test_iptc_of_exiftool_is_read_from_a_png() -> None:
    assert embedded_tags((EXIFTOOL / "iptc.png").read_bytes()).tags == ("only IPTC", "owl")


def test_the_chunk_that_is_made_for_xmp_comes_first() -> None:
    later = PACKET.replace(b"brown bear", b"owl")
    own = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + PACKET)
    assert embedded_tags(png(raw_profile("xmp", later), own)).tags == WORDS


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (raw_profile("xmp", PACKET, stated=9), "lacks a part"),
        (png_chunk(b"tEXt", b"Raw profile type iptc\0\niptc\n 4\nzzzz"), "not hexadecimal"),
        (png_chunk(b"tEXt", b"Raw profile type iptc\0"), "lacks a part"),
        (png_chunk(b"zTXt", b"Raw profile type xmp\0\0" + b"none"), "cannot be unpacked"),
        (png_chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"0" * 100_000_000, 1)), "at most"),
        (b"".join([raw_profile("xmp", b"<x/>")] * 9), "more than 8"),
    ],
    ids=["short", "letters", "empty", "packed", "bomb", "many"],
)
def test_a_damaged_profile_is_told(chunk: bytes, reason: str) -> None:
    embedded = embedded_tags(png(chunk))
    assert embedded.tags == ()
    assert len(embedded.refused) == 1
    assert reason in embedded.refused[0]


def test_bombs_by_the_thousand_cost_little() -> None:
    bomb = png_chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"0" * (MAX_PACKET_BYTES + 9)))
    start = time.process_time()
    assert "more than 8" in embedded_tags(png(*[bomb] * 9000)).refused[-1]
    assert time.process_time() - start < 2


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_reads_what_libavif_and_libheif_write(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encoded(Image.new("RGB", (64, 64), "teal"), kind, xmp=PACKET)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["xmp"] == PACKET
    assert embedded_tags(data).tags == WORDS


def test_xmp_of_a_gif_is_read_behind_its_frames_and_in_sub_blocks() -> None:
    frames = [Image.effect_noise((40, 40), 90 + number) for number in range(3)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    written = b"\x21\xff\x0bXMP DataXMP"
    packets = {
        "as it is": PACKET + TRAILER + b"\0",
        "blocks": b"".join(
            bytes([len(part)]) + part for part in (PACKET[start : start + 255] for start in range(0, len(PACKET), 255))
        )
        + b"\0",
    }
    for packet in packets.values():
        data = gif[:-1] + written + packet + b";"
        with Image.open(io.BytesIO(data)) as image:
            assert getattr(image, "n_frames", 0) == 3
        assert embedded_tags(data).tags == WORDS
    assert embedded_tags(gif).refused == ()
    cut = gif[:1300] + written + PACKET  # the letters stand in the middle of pixels
    assert embedded_tags(cut).tags == ()
    assert "ends before" in embedded_tags(cut).refused[0]


@pytest.mark.parametrize("name", ["exiftool.avif", "exiftool.heic"])
def test_an_item_outside_the_file_is_told(name: str) -> None:
    """Cut behind the boxes that name the packet, and with boxes of no sensible size."""
    whole = (EXIFTOOL / name).read_bytes()
    embedded = embedded_tags(whole[: whole.index(b"<x:xmpmeta") + 9])
    assert embedded.tags == ()
    assert embedded.refused == ("XMP in a damaged HEIC or AVIF",)
    place = whole.index(b"iloc")
    assert embedded_tags(whole[: place - 4] + b"\0\0\0\3" + whole[place:]).refused == ("XMP in a damaged HEIC or AVIF",)
