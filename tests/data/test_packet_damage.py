"""Keywords in packets of every encoding, in parts, and with damage that costs one of them and is told."""

from __future__ import annotations

import codecs
import hashlib
from itertools import pairwise

import pytest
from PIL import Image

from support.image_files import encoded, png_chunk
from underpaint.data.decode.embedded_tags import embedded_tags
from underpaint.data.decode.iptc_keywords import iptc_keywords
from underpaint.data.decode.packets import MAX_EXTENDED_BYTES
from underpaint.data.decode.xmp_keywords import decode_packet, xmp_keywords

WORDS = ("brown bear", "Zoë", "北京", "🐻", "a & b")
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
HEADS = {
    "xpacket": "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>",
    "plain": "",
    "indented": "\n  ",
    "declared": "<?xml version='1.0' encoding='UTF-16'?>",
}


def packet(*words: str, note: str = "") -> str:
    items = "".join(f"<rdf:li>{word.replace('&', '&amp;')}</rdf:li>" for word in words)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" {note}><dc:subject><rdf:Bag>{items}</rdf:Bag>'
        "</dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def words_of(xmp: bytes) -> list[str]:
    keywords, damage = xmp_keywords(decode_packet(xmp))
    assert not damage
    return [text for _, text in keywords]


@pytest.mark.parametrize("padding", [0, 1, 6, 2000])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("encoding", MARKS)
def test_every_encoding_is_read(encoding: str, head: str, marked: bool, padding: int) -> None:
    written = (HEADS[head] + packet(*WORDS)).encode(encoding)
    assert words_of((MARKS[encoding] if marked else b"") + written + bytes(padding)) == list(WORDS)


@pytest.mark.parametrize("encoding", MARKS)
def test_every_encoding_is_read_in_every_container(encoding: str) -> None:
    written = (HEADS["xpacket"] + packet(*WORDS)).encode(encoding)
    picture = Image.new("RGB", (8, 8), "teal")
    png = encoded(picture)
    containers = {
        "jpeg": encoded(picture, "JPEG", xmp=written),
        "webp": encoded(picture, "WEBP", xmp=written),
        "png": png[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + written) + png[33:],
        "tiff": encoded(picture, "TIFF", tiffinfo={700: written}),
    }
    for name, data in containers.items():
        assert embedded_tags(data).tags == WORDS, name
        assert embedded_tags(data).refused == (), name


@pytest.mark.parametrize(("name", "word"), [("ISO-8859-1", "Zoë"), ("windows-1251", "сова"), ("iso-8859-16", "Zoë")])
def test_an_encoding_of_single_bytes_is_read_where_it_is_declared(name: str, word: str) -> None:
    declared = f"<?xml version='1.0' encoding='{name}'?>"
    assert words_of((declared + packet(word)).encode(name)) == [word]


def with_app1(jpeg: bytes, *segments: bytes) -> bytes:
    parts = b"".join(b"\xff\xe1" + (len(one) + 2).to_bytes(2, "big") + one for one in segments)
    return jpeg[:2] + parts + jpeg[2:]


def extended_jpeg(*words: str, size: int, drop: int = -1, note: str = "", filler: int = 0) -> bytes:
    """The first word in the packet, the others in an extended one, cut into segments of ``size`` in reverse order."""
    rest = packet(*words[1:]).encode() + b" " * filler
    name = hashlib.md5(rest, usedforsecurity=False).hexdigest().upper().encode()
    note = note or f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{name.decode()}"'
    head = b"http://ns.adobe.com/xmp/extension/\0" + name + len(rest).to_bytes(4, "big")
    parts = [head + start.to_bytes(4, "big") + rest[start : start + size] for start in range(0, len(rest), size)]
    parts = [part for number, part in enumerate(parts) if number != drop]
    main = b"http://ns.adobe.com/xap/1.0/\0" + packet(words[0], note=note).encode()
    return with_app1(encoded(Image.new("RGB", (8, 8)), "JPEG"), main, *reversed(parts))


def test_extended_packets_are_put_together() -> None:
    for size in (50, 333, 60_000):
        found = embedded_tags(extended_jpeg(*WORDS, size=size))
        assert (found.tags, found.refused) == (WORDS, ())


def test_an_extended_packet_that_is_not_whole_or_not_named_is_not_read() -> None:
    for drop in (0, 3):
        found = embedded_tags(extended_jpeg(*WORDS, size=100, drop=drop))
        assert (found.tags, found.refused) == (WORDS[:1], ("extended XMP that lacks a part",))
    stranger = embedded_tags(extended_jpeg(*WORDS, size=100, note='x="y"'))
    assert (stranger.tags, stranger.refused) == (WORDS[:1], ())
    missing = extended_jpeg(*WORDS, size=60_000, drop=0)
    assert embedded_tags(missing).refused == ("extended XMP that is not in the file",)
    large = embedded_tags(extended_jpeg(*WORDS, size=60_000, filler=MAX_EXTENDED_BYTES))
    assert large.tags == WORDS[:1]
    assert "at most" in large.refused[0]


@pytest.mark.parametrize("encoding", MARKS)
def test_one_bad_byte_in_a_word_costs_that_word_and_is_told(encoding: str) -> None:
    """Half of a surrogate pair, or a byte that is no UTF-8, in the first letter of each word in turn."""
    whole = packet(*WORDS)
    for word in ("brown bear", "Zoë", "北京"):
        place = len(whole[: whole.index(word)].encode(encoding))
        written = bytearray(whole.encode(encoding))
        bad = {"utf-8": b"\xff", "utf-16-le": b"\0\xd8", "utf-16-be": b"\xd8\0"}.get(encoding, b"\xff\xff\xff\xff")
        written[place : place + len(bad)] = bad
        found = embedded_tags(encoded(Image.new("RGB", (8, 8)), "JPEG", xmp=bytes(written)))
        assert [tag for tag in WORDS if tag != word] == [tag for tag in found.tags if tag in WORDS]
        assert found.refused
        assert "not text" in found.refused[0]


def test_a_control_character_costs_its_word_and_is_told() -> None:
    found = embedded_tags(encoded(Image.new("RGB", (8, 8)), "JPEG", xmp=packet("a\x01b", "owl").encode()))
    assert (found.tags, len(found.refused)) == (("owl",), 1)


def test_words_before_broken_xml_are_kept_and_the_break_is_told() -> None:
    broken = packet(*WORDS).replace("</rdf:li><rdf:li>北", "</rdf:li><rdf:li<>北").encode()
    found = embedded_tags(encoded(Image.new("RGB", (8, 8)), "JPEG", xmp=broken))
    assert found.tags == WORDS[:2]
    assert "not XML" in found.refused[0]


def dataset(record: int, number: int, content: bytes) -> bytes:
    return bytes([0x1C, record, number]) + len(content).to_bytes(2, "big") + content


KEYWORDS = ("brown bear", "Zoë", "owl", "x" * 40, "北京")
CHARSET = b"\x1b%G"


@pytest.mark.parametrize("charset", [CHARSET, b""], ids=["declared", "undeclared"])
@pytest.mark.parametrize("padding", [0, 3])
def test_one_bad_byte_in_iptc_keeps_the_other_keywords_and_is_told(charset: bytes, padding: int) -> None:
    """Every byte of a block, every flip of a bit: one keyword may be lost, and is told unless it reads as another."""
    parts = [dataset(1, 90, charset)] * bool(charset) + [dataset(2, 0, b"\0\2")]
    parts += [dataset(2, 25, word.encode()) for word in KEYWORDS] + [dataset(2, 120, b"a caption")]
    whole = b"".join(parts) + bytes(padding)
    assert iptc_keywords(whole) == (list(KEYWORDS), [])
    starts = [sum(map(len, parts[:number])) for number in range(len(parts) + 1)]
    markers_and_sizes = {start + place for start, _ in pairwise(starts) for place in (0, 3, 4)}
    for place in range(len(whole) - padding):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            words, reasons = iptc_keywords(bytes(damaged))
            kept = [word for word in KEYWORDS if word in words]
            assert len(kept) >= len(KEYWORDS) - 1, (place, bit, words)
            into_padding = place == starts[-2] + 4 and len(damaged) >= starts[-2] + 5 + damaged[place] > starts[-1]
            if place in markers_and_sizes and not into_padding:  # a caption with zeros behind it reads as a caption
                assert reasons, (place, bit, words)
                assert set(words) <= set(KEYWORDS), "no keyword is made up of a part of one"


def test_a_word_that_is_not_in_the_declared_set_is_left_out_and_told() -> None:
    block = dataset(1, 90, CHARSET) + dataset(2, 25, "Zoë".encode("latin-1")) + dataset(2, 25, b"owl")
    assert iptc_keywords(block) == (["owl"], ["an IPTC keyword that is not UTF-8"])
    strange = dataset(1, 90, b"\x1b-L") + dataset(2, 25, "сова".encode("iso8859-5")) + dataset(2, 25, b"owl")
    words, reasons = iptc_keywords(strange)
    assert words == ["owl"]
    assert len(reasons) == 2


def test_binary_datasets_may_hold_markers() -> None:
    preview = dataset(2, 202, b"\x1c\x02\x19\0\x02no" * 3)
    assert iptc_keywords(preview + dataset(2, 25, b"owl")) == (["owl"], [])


def test_a_block_that_is_cut_off_gives_what_stands_before() -> None:
    block = dataset(2, 25, b"owl") + dataset(2, 25, b"barn owl")
    for cut in range(9, len(block)):
        assert iptc_keywords(block[:cut]) == (["owl"], ["damaged IPTC"])


def test_markers_without_end_cost_little() -> None:
    words, reasons = iptc_keywords(b"\x1c\x02\x19\x7f\xff" * 50_000)
    assert not any(words)
    assert set(reasons) == {"damaged IPTC"}
