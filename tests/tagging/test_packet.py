"""Predicted tags in XMP, read back by Exiv2 (digiKam's library), and the words of people beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyexiv2
import pytest
from PIL import Image

from support.image_files import encoded
from underpaint.data.decode.embedded_tags import packet_tags
from underpaint.data.decode.packets import BadPacket
from underpaint.tagging.packet import DIGIKAM, EMPTY, LIGHTROOM, SUBJECT, keywords_of, with_predicted

ABOUT = ("written=1800000000000000000", "before=0", "model=abc")
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
LR = 'xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'


def exiv2(packet: bytes, folder: Path) -> dict[str, Any]:
    """All XMP properties of a sidecar as Exiv2 reads them."""
    file = folder / "read.xmp"
    file.write_bytes(packet)
    with pyexiv2.Image(str(file)) as image:
        return image.read_xmp()


def written(fields: dict[str, Any], folder: Path) -> bytes:
    """A packet by Exiv2."""
    file = folder / "writer.jpg"
    file.write_bytes(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    with pyexiv2.Image(str(file)) as image:
        image.modify_xmp(fields)
        return image.read_raw_xmp().encode()


PEOPLE = {
    "lightroom": {
        "Xmp.dc.subject": ["barn owl", "Zoë & <co>"],
        "Xmp.lr.hierarchicalSubject": ["Animals|Birds|barn owl", "Zoë & <co>"],
        "Xmp.xmp.Rating": "4",
        "Xmp.dc.title": {'lang="x-default"': "An owl"},
    },
    "digikam": {
        "Xmp.digiKam.TagsList": ["Animals/Birds/barn owl", "Places/Norway"],
        "Xmp.lr.hierarchicalSubject": ["Animals|Birds|barn owl", "Places|Norway"],
        "Xmp.dc.subject": ["barn owl", "Norway"],
    },
    "flat": {"Xmp.dc.subject": ["北京", "тигр"], "Xmp.xmp.Rating": "1"},
    "rating": {"Xmp.xmp.Rating": "5"},
}


@pytest.mark.parametrize("program", PEOPLE)
def test_exiv2_reads_the_tags_and_everything_that_was_there(program: str, tmp_path: Path) -> None:
    before = written(PEOPLE[program], tmp_path)
    after = with_predicted(before, ["brown bear", "a | b/c & <d>"], about=ABOUT, inside=[])
    old, new = exiv2(before, tmp_path), exiv2(after, tmp_path)
    tags = new.pop("Xmp.lr.hierarchicalSubject")
    assert tags[-2:] == ["underpaint|brown bear", "underpaint|a   b/c & <d>"]
    hierarchy = old.pop("Xmp.lr.hierarchicalSubject", old.get("Xmp.dc.subject", []))
    assert tags[:-2] == hierarchy, "a new list begins with the flat keywords: digiKam reads one list alone"
    if program == "digikam":
        assert new["Xmp.digiKam.TagsList"].pop() == "underpaint/a | b c & <d>"
        assert new["Xmp.digiKam.TagsList"].pop() == "underpaint/brown bear"
    assert new.pop("Xmp.underpaint.predicted") == ["brown bear", "a | b/c & <d>"]
    assert new.pop("Xmp.underpaint.written") == list(ABOUT)
    assert new == old
    keywords = packet_tags(after)
    assert keywords.tags == packet_tags(before).tags
    assert keywords.predicted == ("brown bear", "a | b/c & <d>")


@pytest.mark.parametrize("program", PEOPLE)
def test_nothing_but_the_new_items_changes(program: str, tmp_path: Path) -> None:
    before = written(PEOPLE[program], tmp_path)
    after = with_predicted(before, ["cat"], about=ABOUT, inside=[])
    pieces = re.split(rb"\n\s*<rdf:li>(?:underpaint.cat)</rdf:li>", after)
    without = re.sub(rb"\n  <rdf:Description xmlns:rdf=.*?</rdf:Description>", b"", b"".join(pieces), flags=re.DOTALL)
    assert without == before
    again = with_predicted(after, ["dog", "owl"], about=ABOUT, inside=[])
    assert again == with_predicted(again, ["dog", "owl"], about=ABOUT, inside=[])
    assert len(re.findall(rb"underpaint\|", again)) == 2
    assert packet_tags(again).predicted == ("dog", "owl")


def test_a_new_packet_begins_with_the_keywords_inside_the_image(tmp_path: Path) -> None:
    inside = [(SUBJECT, "owl"), (SUBJECT, "Norway"), (DIGIKAM, "Animals/owl")]
    properties = exiv2(with_predicted(EMPTY, ["cat"], about=ABOUT, inside=inside), tmp_path)
    assert properties["Xmp.lr.hierarchicalSubject"] == ["Animals|owl", "Norway", "underpaint|cat"]
    assert properties["Xmp.digiKam.TagsList"] == ["Animals/owl", "Norway", "underpaint/cat"]
    assert "Xmp.digiKam.TagsList" not in exiv2(with_predicted(EMPTY, ["cat"], about=ABOUT, inside=[]), tmp_path)


@pytest.mark.parametrize(
    "packet",
    [
        f'<r:RDF xmlns:r="{RDF[11:-1]}"><r:Description {LR}>{{}}</r:Description></r:RDF>'.format(
            "<lr:hierarchicalSubject><r:Bag/></lr:hierarchicalSubject>"
        ),
        f"<rdf:RDF {RDF}><rdf:Description {LR}><lr:hierarchicalSubject><rdf:Seq>"
        "<rdf:li/></rdf:Seq></lr:hierarchicalSubject></rdf:Description></rdf:RDF>",
        f"<rdf:RDF {RDF}/>",
        f"\ufeff<?xml version='1.0'?><rdf:RDF {RDF}><rdf:Description><!-- > --></rdf:Description></rdf:RDF>",
        f"<RDF xmlns='{RDF[11:-1]}'><Description {LR}><lr:hierarchicalSubject><Bag><li>été</li></Bag>"
        "</lr:hierarchicalSubject></Description></RDF>",
    ],
)
def test_odd_but_sound_packets_are_merged(packet: str) -> None:
    before = packet.encode()
    after = with_predicted(before, ["cat"], about=ABOUT, inside=[])
    assert [text for name, text in keywords_of(after) if name == LIGHTROOM][-1] == "underpaint|cat"
    assert (packet_tags(after).tags, packet_tags(after).predicted) == (packet_tags(before).tags, ("cat",))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"not XML",
        EMPTY[:-60],
        EMPTY.decode().encode("utf-16"),
        EMPTY.replace(b"<x:", b"<y:"),
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + EMPTY,
        f"<rdf:RDF {RDF}><rdf:Description {LR} lr:hierarchicalSubject='a'/></rdf:RDF>".encode(),
        f"<rdf:RDF {RDF}><rdf:Description {LR}><lr:hierarchicalSubject>a</lr:hierarchicalSubject>"
        "</rdf:Description></rdf:RDF>".encode(),
        f"<rdf:RDF {RDF}><rdf:Description {LR}><lr:hierarchicalSubject><rdf:Map><rdf:li>a</rdf:li></rdf:Map>"
        "</lr:hierarchicalSubject></rdf:Description></rdf:RDF>".encode(),
        f"<rdf:RDF {RDF}>\xe9</rdf:RDF>".encode("latin-1"),
        EMPTY + b" " * (1 << 20),
    ],
)  # fmt: skip
def test_a_packet_that_cannot_be_merged_is_refused(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        with_predicted(packet, ["cat"], about=ABOUT, inside=[])


def test_words_that_programs_repeat_are_not_people_s() -> None:
    """digiKam and Lightroom write the leaf of each hierarchy into the flat list, too."""
    packet = with_predicted(EMPTY, ["cat", "snow"], about=ABOUT, inside=[(SUBJECT, "Norway")])
    flat = "".join(f"<rdf:li>{word}</rdf:li>" for word in ("Cat", "underpaint", "Norway", "ship", "snow"))
    subject = f'<rdf:Description {RDF} xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>{flat}'
    end = "</rdf:Bag></dc:subject></rdf:Description></rdf:RDF>"
    repeated = packet.replace(b"</rdf:RDF>", (subject + end).encode())
    assert packet_tags(repeated).tags == ("Norway", "ship")
    accepted = repeated.replace(b"underpaint|cat", b"Animals|cat")
    assert packet_tags(accepted).tags == ("Cat", "Norway", "ship", "Animals|cat"), "moved out of the branch by a person"


def test_a_keyword_of_this_name_that_people_have_stays(tmp_path: Path) -> None:
    assert packet_tags(written({"Xmp.dc.subject": ["underpaint", "oil"]}, tmp_path)).tags == ("underpaint", "oil")
