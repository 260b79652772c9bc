"""Keywords in images: files of Exiv2 (digiKam's library) and of ExifTool, packets of other programs, hostile ones."""

from __future__ import annotations

import random
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pyexiv2
import pytest
from PIL import Image

from support.image_files import encoded, png_chunk
from underpaint.data.decode.embedded_tags import MAX_TAG_LETTERS, MAX_TAGS, embedded_tags
from underpaint.data.decode.iptc_keywords import iptc_keywords
from underpaint.data.decode.packets import MAX_PACKET_BYTES
from underpaint.data.decode.xmp_keywords import decode_packet, xmp_keywords

KINDS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}
WITH_IPTC = ("jpg", "png", "tif")
EXIFTOOL = Path(__file__).parent / "embedded"
"""Written by ExifTool 12.57 (Debian) with -XMP-dc:Subject, -XMP-digiKam:TagsList, -XMP-lr:HierarchicalSubject,
-XMP-microsoft:LastKeywordXMP, -IPTC:Keywords; it puts XMP behind the pixels of a PNG. latin.jpg: the same with -charset
iptc=latin; iptc.png: -IPTC:Keywords alone, which a PNG keeps as a raw profile."""

DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
LR = 'xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'


def image(kind: str, **options: Any) -> bytes:
    return encoded(Image.new("RGB", (8, 8), "teal"), kind, **options)


def packet(inner: str) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {RDF}><rdf:Description rdf:about="" {DC} {LR}>{inner}</rdf:Description></rdf:RDF>'
        f'</x:xmpmeta>{" " * 2000}<?xpacket end="w"?>'
    ).encode()


def bag(name: str, *items: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{item}</rdf:li>' for item in items)}</rdf:Bag></{name}>"


def jpeg(xmp: bytes) -> bytes:
    return image("JPEG", xmp=xmp)


def words(xmp: bytes) -> list[str]:
    keywords, damage = xmp_keywords(decode_packet(xmp))
    assert not damage
    return [text for _, text in keywords]


@pytest.mark.parametrize("extension", KINDS)
def test_reads_what_exiv2_writes(extension: str, tmp_path: Path) -> None:
    file = tmp_path / f"image.{extension}"
    file.write_bytes(image(KINDS[extension]))
    told = ["brown bear", "Zoë", "北京", "тигр", "a & b <c>"]
    with pyexiv2.Image(str(file)) as writer:
        writer.modify_xmp(
            {
                "Xmp.dc.subject": told,
                "Xmp.digiKam.TagsList": ["Animals/Brown Bear", "Animals/owl", "_Digikam_Internal_Tags_/Pick Label"],
                "Xmp.lr.hierarchicalSubject": ["Animals|owl", "darktable|format|jpg"],
            }
        )
        if extension in WITH_IPTC:
            writer.modify_iptc(
                {
                    "Iptc.Application2.Keywords": ["brown bear", "grizzly", "ours brun été"],
                    "Iptc.Envelope.CharacterSet": "\x1b%G",
                }
            )
    iptc = ["grizzly", "ours brun été"] if extension in WITH_IPTC else []
    found = embedded_tags(file.read_bytes())
    assert found.tags == (*told, *iptc, "Animals|Brown Bear", "Animals|owl")
    assert found.refused == ()


@pytest.mark.parametrize("extension", [*KINDS, "gif", "avif", "heic"])
def test_reads_what_exiftool_writes(extension: str) -> None:
    found = embedded_tags((EXIFTOOL / f"exiftool.{extension}").read_bytes())
    iptc = ["only IPTC"] if extension in ("jpg", "tif") else []
    paths = [f"Animals|only {program}" for program in ("Windows", "digiKam", "Lightroom")]
    assert found.tags == ("brown bear", "Zoë", "北京", *iptc, *paths)
    assert found.refused == ()


def test_undeclared_iptc_is_utf8_where_it_can_be_and_else_latin_1() -> None:
    assert embedded_tags((EXIFTOOL / "latin.jpg").read_bytes()).tags == ("Zürich", "été")
    keyword = "Zürich".encode()
    assert iptc_keywords(b"\x1c\x02\x19\0\x07" + keyword) == (["Zürich"], [])


def test_another_character_set_is_refused_and_told() -> None:
    japanese = b"\x1c\x01\x5a\0\x03\x1b$B" + b"\x1c\x02\x19\0\x02\x30\x21"
    resource = b"8BIM\x04\x04\0\0" + len(japanese).to_bytes(4, "big") + japanese
    data = with_segment(jpeg(packet(bag("dc:subject", "kept"))), 0xED, b"Photoshop 3.0\0" + resource)
    found = embedded_tags(data)
    assert found.tags == ("kept",)
    assert len(found.refused) == 1
    assert "character set" in found.refused[0]


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def test_photoshop_resources_go_on_in_the_next_segment() -> None:
    """A resource with a name stands before the IPTC, which is cut in two segments, as it is above 64 kB."""
    iptc = b"".join(b"\x1c\x02\x19" + len(word).to_bytes(2, "big") + word for word in (b"owl", b"barn owl"))
    resources = b"8BIM\x03\xed\x04name\0\0\0\0\x03abc\0" + b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc
    halves = resources[:41], resources[41:]
    data = image("JPEG")
    for half in reversed(halves):
        data = with_segment(data, 0xED, b"Photoshop 3.0\0" + half)
    assert embedded_tags(data).tags == ("owl", "barn owl")


def test_an_extended_dataset_tells_how_long_its_size_is() -> None:
    assert iptc_keywords(b"\x1c\x02\x19\x80\x04\0\0\0\x03owl" + b"\x1c\x02\x19\0\x03cat") == (["owl", "cat"], [])


def test_lightroom_writes_keywords_with_the_words_above_them() -> None:
    inner = bag("dc:subject", "Animals", "brown bear") + bag("lr:hierarchicalSubject", "Animals|Bears|brown bear")
    assert embedded_tags(jpeg(packet(inner))).tags == ("Animals", "brown bear", "Animals|Bears|brown bear")


def test_flickr_writes_seq_lists_and_single_texts_occur_too() -> None:
    assert words(packet("<dc:subject><rdf:Seq><rdf:li>a cat</rdf:li></rdf:Seq></dc:subject>")) == ["a cat"]
    assert words(packet("<dc:subject>cat; barn owl,dog</dc:subject>")) == ["cat", " barn owl", "dog"]
    attribute = packet("").replace(b'rdf:about=""', b'rdf:about="" dc:subject="cat"')
    assert words(attribute) == ["cat"]


def test_what_an_image_was_made_from_is_not_what_it_shows() -> None:
    nested = (
        f"<xmpMM:Ingredients xmlns:xmpMM='m'><rdf:Bag><rdf:li><rdf:Description>{bag('dc:subject', 'no')}"
        "</rdf:Description></rdf:li></rdf:Bag></xmpMM:Ingredients>"
    )
    assert words(packet(nested + bag("dc:subject", "yes"))) == ["yes"]


def test_packets_end_in_zeros_or_are_in_utf_16() -> None:
    assert words(packet(bag("dc:subject", "owl")) + b"\0\0") == ["owl"]
    text = packet(bag("dc:subject", "сова")).decode().replace("\ufeff", "")
    assert words(b"\xff\xfe" + text.encode("utf-16-le")) == ["сова"]


def test_tags_are_cleaned_and_distinct() -> None:
    inner = bag("dc:subject", " brown\n bear ", "brown bear", "", "a\u202eb", "Brown bear")
    assert embedded_tags(jpeg(packet(inner))).tags == ("brown bear", "a b", "Brown bear")


def test_images_without_keywords_have_none() -> None:
    for kind in KINDS.values():
        found = embedded_tags(image(kind))
        assert (found.tags, found.refused) == ((), ())
    assert (embedded_tags(b"").tags, embedded_tags(b"").refused) == ((), ())
    assert embedded_tags(jpeg(packet("<dc:title>x</dc:title>"))).tags == ()
    assert embedded_tags(image("GIF")).refused == ()


BILLION_LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1 if i else str()};" * 10}">' for i in range(9))
    + "]>"
).encode() + packet(bag("dc:subject", "&a8;"))
EXTERNAL = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + packet(bag("dc:subject", "&a;"))
DEEP = packet("<a>" * 50_000 + bag("dc:subject", "x") + "</a>" * 50_000)
WIDE = packet("<a/>" * 100_000 + bag("dc:subject", "x"))
ENCODED = b'<?xml version="1.0" encoding="none-such"?>' + packet(bag("dc:subject", "x")).split(b"?>", 1)[1]


@pytest.mark.parametrize(
    ("xmp", "reason"),
    [
        (BILLION_LAUGHS, "document type"),
        (EXTERNAL, "document type"),
        (DEEP, "levels"),
        (WIDE, "elements"),
        (ENCODED, "encoding 'none-such'"),
        (b"subject <not closed", "not XML"),
        (packet(bag("dc:subject", "x"))[:300], "not XML"),
        (packet(bag("dc:subject", "x") + "a" * MAX_PACKET_BYTES), "bytes"),
    ],
    ids=["laughs", "external", "deep", "wide", "encoding", "open", "half", "huge"],
)
def test_hostile_xml_is_refused_and_told_in_little_time_and_memory(xmp: bytes, reason: str) -> None:
    png = image("PNG")
    content = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    chunk = png_chunk(b"iTXt", content)
    tracemalloc.start()
    start = time.process_time()
    found = embedded_tags(png[:33] + chunk + png[33:])
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tags == ()
    assert len(found.refused) == 1
    assert reason in found.refused[0]
    assert seconds < 10  # some 0.1 without the checks of types and of memory
    assert peak < 20 * 1024 * 1024


def test_a_packed_bomb_is_refused() -> None:
    content = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 200_000_000, 1)
    png = image("PNG")
    chunk = png_chunk(b"iTXt", content)
    found = embedded_tags(png[:33] + chunk + png[33:])
    assert found.tags == ()
    assert "at most" in found.refused[0]


def test_numbers_and_lengths_are_limited() -> None:
    many = embedded_tags(jpeg(packet(bag("dc:subject", *(f"{i:x}" for i in range(MAX_TAGS + 5))))))
    assert len(many.tags) == MAX_TAGS
    assert len(many.refused) == 1
    long = embedded_tags(jpeg(packet(bag("dc:subject", "x" * (MAX_TAG_LETTERS + 1), "owl"))))
    assert long.tags == ("owl",)
    assert len(long.refused) == 1


@pytest.mark.parametrize(
    "name",
    [
        "exiftool.jpg",
        "exiftool.png",
        "exiftool.tif",
        "exiftool.webp",
        "latin.jpg",
        "exiftool.gif",
        "exiftool.avif",
        "exiftool.heic",
        "iptc.png",
    ],
)
def test_damaged_files_give_some_keywords_or_none(name: str) -> None:
    """No exception, whatever the bytes; and the damage does what it should: some keywords get lost."""
    whole = (EXIFTOOL / name).read_bytes()
    chance = random.Random(name)
    lost = 0
    for _ in range(200):
        data = bytearray(whole[: chance.randint(1, len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        lost += embedded_tags(bytes(data)).tags != embedded_tags(whole).tags
    assert lost > 20
