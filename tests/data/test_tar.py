"""Our reader of tar headers against tarfile and webdataset, and against files that mean harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.data.shards import tar
from underpaint.data.shards.tar import Member, list_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def made(*members: tuple[str, bytes] | tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(b"x" * member.size))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def listed(data: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    """The content of each accepted member by its name, and the reasons by member."""
    members, problems = list_members(io.BytesIO(data), "a.tar")
    contents = {f"{m.key}.{m.extension}": data[m.offset : m.offset + m.size] for m in members}
    assert len(contents) == len(members)
    return contents, {problem.key: problem.reason for problem in problems}


@pytest.mark.parametrize("format", FORMATS)
def test_reads_what_tarfile_writes(format: str) -> None:
    names = ["0001.jpg", "0001.txt", "folder/0002.JPEG", "d/" * 60 + "3.png", "e/" * 40 + "f" * 80 + ".webp"]
    if format != "ustar":
        names += ["g" * 150 + ".jpg", "bär/熊.png", "h/" * 200 + "5.json"]
    draw = random.Random(0)
    members = [(name, draw.randbytes(draw.choice([0, 1, 511, 512, 513, 2000]))) for name in names]
    data = made(*members, format=FORMATS[format])
    contents, problems = listed(data)
    assert not problems
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = {info.name: data[info.offset_data : info.offset_data + info.size] for info in archive}
    assert contents == {name.replace(".JPEG", ".jpeg"): content for name, content in expected.items()}


def test_keys_are_those_of_webdataset(tmp_path: Path) -> None:
    """The oracle splits names with its own rule; its own writer makes the tar."""
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number in range(20):
            writer.write({"__key__": f"a/{number:05d}", "jpg": b"\xff%d" % number, "txt": f"tag {number}"})
    with (tmp_path / "a.tar").open("rb") as file:
        members, problems = list_members(file, "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    assert not problems
    assert {(m.key, m.extension): data[m.offset : m.offset + m.size] for m in members} == {
        (f"a/{number:05d}", extension): content
        for number in range(20)
        for extension, content in (("jpg", b"\xff%d" % number), ("txt", f"tag {number}".encode()))
    }
    for member in members:
        assert webdataset.tariterators.base_plus_ext(f"{member.key}.{member.extension}") == (
            member.key,
            member.extension,
        )


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../x.jpg", b"x"), "leads out"),
        (("a/../../x.jpg", b"x"), "leads out"),
        (("/etc/x.jpg", b"x"), "absolute"),
        (("C:/x.jpg", b"x"), "absolute"),
        (("a\\..\\x.jpg", b"x"), "absolute"),
        (("a\nb.jpg", b"x"), "printed"),
        (("a.pkl", b"cos\nsystem\n."), ".pkl"),
        (("a.pyd", b"x"), ".pyd"),
        (("a.pt", b"x"), ".pt"),
        (("a.jpg.pkl", b"x"), ".jpg.pkl"),
        ((".jpg", b"x"), "nothing before"),
        (("a", b"x"), "not read"),
        (special("l.jpg", tarfile.SYMTYPE, "/etc/passwd"), "symbolic link"),
        (special("h.jpg", tarfile.LNKTYPE, "good.jpg"), "hard link"),
        (special("c.jpg", tarfile.CHRTYPE), "character device"),
        (special("b.jpg", tarfile.BLKTYPE), "block device"),
        (special("f.jpg", tarfile.FIFOTYPE), "FIFO"),
        (("a.txt", bytes(tar.MAX_TEXT_BYTES + 1)), "at most"),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_refuses_one_member_and_reads_the_others(
    member: tuple[str, bytes] | tarfile.TarInfo, reason: str, format: str
) -> None:
    contents, problems = listed(made(("good.jpg", b"1"), member, ("last.jpg", b"2"), format=FORMATS[format]))
    assert contents == {"good.jpg": b"1", "last.jpg": b"2"}
    assert len(problems) == 1
    (key, said), *_ = problems.items()
    assert reason in said
    assert key.startswith("a.tar/")
    assert key.isprintable()


def test_a_link_that_states_a_size_hides_no_member() -> None:
    """Whoever skips the content that a link does not have reads other members than tarfile does."""
    link = special("l.jpg", tarfile.SYMTYPE, "x").tobuf()
    data = bytearray(made(("a.jpg", b"1"), special("l.jpg", tarfile.SYMTYPE, "x"), ("b.jpg", b"2")))
    place = data.index(link[:5], 1024)
    data[place + 124 : place + 136] = b"%011o\0" % 512
    fix_checksum(data, place)
    contents, problems = listed(bytes(data))
    assert contents == {"a.jpg": b"1", "b.jpg": b"2"}
    assert len(problems) == 1


def test_folders_are_passed_over_and_a_leading_dot_dropped() -> None:
    contents, problems = listed(made(special("a/", tarfile.DIRTYPE), ("./a/b.jpg", b"1")))
    assert (contents, problems) == ({"a/b.jpg": b"1"}, {})


def test_a_key_has_one_image_and_members_need_not_stand_together() -> None:
    data = made(("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3"), ("b.png", b"4"), ("a.txt", b"5"), ("a.txt", b"6"))
    contents, problems = listed(data)
    assert contents == {"a.jpg": b"1", "b.jpg": b"2", "a.txt": b"5"}
    assert list(problems) == ["a.tar/a.jpg", "a.tar/b.png", "a.tar/a.txt"]
    assert all("already" in reason for reason in problems.values())


@pytest.mark.parametrize("format", FORMATS)
def test_a_tar_cut_anywhere_gives_the_members_before_the_cut(format: str) -> None:
    data = made(("a.jpg", b"1" * 600), ("b" * 90 + ".jpg", b"2" * 512), ("c.jpg", b""), format=FORMATS[format])
    whole, _ = listed(data)
    end = data.rindex(b"c.jpg") + 512
    for cut in range(0, end, 37):
        contents, problems = listed(data[:cut])
        assert contents.items() <= whole.items()
        assert len(contents) < 3
        assert "cut off" in problems["a.tar"] or "damaged" in problems["a.tar"]
    contents, problems = listed(data[:end])  # between two members: nothing but the missing mark tells
    assert contents == whole
    assert "no mark" in problems["a.tar"]


@pytest.mark.parametrize("padding", [0, 512, 512 * 40, 3 << 20])
@pytest.mark.parametrize("format", FORMATS)
def test_tars_one_behind_the_other_are_read_as_tarfile_reads_them(format: str, padding: int) -> None:
    """``cat a.tar b.tar``, also where one was padded, and a lone empty block between members."""
    content = {name: (f"{name}/1.jpg", name.encode() * 600) for name in "abc"}
    parts = [made(content[name], (f"{name}.txt", b"x"), format=FORMATS[format]) for name in "abc"]
    lone = made(("d.jpg", b"4"), format=FORMATS[format])[:1024] + bytes(512)
    data = (bytes(padding)).join(parts) + bytes(padding) + lone + made(("e.jpg", b"5"))
    contents, problems = listed(data)
    assert not problems
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as archive:
        assert contents == {one.name: data[one.offset_data : one.offset_data + one.size] for one in archive}
    assert list(contents) == ["a/1.jpg", "a.txt", "b/1.jpg", "b.txt", "c/1.jpg", "c.txt", "d.jpg", "e.jpg"]


@pytest.mark.parametrize("rest", [b"x", b"x" * 511, b"garbage!" * 64, b"x" * 5000, bytes(700) + b"x"])
def test_bytes_behind_the_end_that_are_no_tar_are_told(rest: bytes) -> None:
    data = made(("a.jpg", b"1"))
    contents, problems = listed(data + rest)
    assert contents == {"a.jpg": b"1"}
    assert "behind its end mark are not a tar" in problems["a.tar"]


def test_zeros_without_end_are_not_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_ZEROS", 4096)
    near, far = (made(("a.jpg", b"1"))[:1024] + bytes(zeros) for zeros in (3072, 8192))
    assert listed(near + made(("b.jpg", b"2"))[:2048]) == ({"a.jpg": b"1", "b.jpg": b"2"}, {})
    contents, problems = listed(far + made(("b.jpg", b"2")))
    assert contents == {"a.jpg": b"1"}
    assert "behind its end mark" in problems["a.tar"]


def test_a_packed_file_is_named_as_what_it_is() -> None:
    plain = made(("a.jpg", b"1"))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.jpg", b"1")
    packed = {"gzip": gzip.compress(plain), "bzip2": bz2.compress(plain), "xz": lzma.compress(plain)}
    for program, data in {**packed, "ZIP": zipped.getvalue()}.items():
        assert listed(data) == ({}, {"a.tar": f"it is not a tar but packed with {program}; unpack it"})
    assert listed(made(("BZh.jpg", b"1"))) == ({"BZh.jpg": b"1"}, {})


def fix_checksum(data: bytearray, place: int) -> None:
    data[place + 148 : place + 156] = b" " * 8
    data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])


def with_size(data: bytes, place: int, field: bytes) -> bytes:
    changed = bytearray(data)
    changed[place + 124 : place + 136] = field
    fix_checksum(changed, place)
    return bytes(changed)


def pax(*pairs: tuple[str, str]) -> bytes:
    info = tarfile.TarInfo("b.jpg")
    info.size, info.pax_headers = 1, dict(pairs)
    return made(("a.jpg", b"1"), info, ("c.jpg", b"2"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pax(("comment", "y" * tar.MAX_PAX_BYTES)), "extended header of"),
        (with_size(pax(("comment", "y")), 1024, b"\x80" + (2**80).to_bytes(11, "big")), "extended header of"),
        (with_size(pax(("comment", "y")), 1024, b"%011o\0" % 9), "damaged"),
        (pax(("size", str(2**62))), "cut off"),
        (pax(("size", "-5")), "states the size"),
        (pax(("size", "9" * 5000)), "states the size"),
        (with_size(made(("a.jpg", b"1"), ("b.jpg", b"2")), 1024, b"\xff" * 12), "not a number"),
        (with_size(made(("a.jpg", b"1"), ("b.jpg", b"2")), 1024, b"\x80" + (2**63).to_bytes(11, "big")), "cut off"),
        (with_size(made(("a.jpg", b"1"), ("b.jpg", b"2")), 1024, b"-0000000010\0"), "not a number"),
        (made(("a.jpg", b"1"), ("n" * 5000 + ".jpg", b"2"), format=tarfile.GNU_FORMAT), "extended header of"),
        (made(("a.jpg", b"1"), ("b.jpg", b"2"))[:1024] + b"garbage!" * 64 + bytes(1024), "damaged"),
    ],
)
def test_a_bomb_ends_the_tar(data: bytes, reason: str) -> None:
    contents, problems = listed(data)
    assert contents == {"a.jpg": b"1"}
    assert reason in problems["a.tar"]


def test_a_global_header_may_say_what_does_not_matter() -> None:
    def global_header(**pairs: str) -> bytes:
        return tarfile.TarInfo.create_pax_global_header(pairs)

    rest = made(("a.jpg", b"1"))
    assert listed(global_header(comment="0123") + rest) == ({"a.jpg": b"1"}, {})
    contents, problems = listed(global_header(path="../x.jpg") + rest)
    assert not contents
    assert "global" in problems["a.tar"]


def test_a_pax_name_counts_and_is_checked() -> None:
    contents, problems = listed(pax(("path", "../../evil.jpg")))
    assert contents == {"a.jpg": b"1", "c.jpg": b"2"}
    assert problems == {"a.tar/../../evil.jpg": "its name leads out of the folder"}


def test_sparse_members_are_refused() -> None:
    contents, problems = listed(pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")))
    assert contents == {"a.jpg": b"1", "c.jpg": b"2"}
    assert problems == {"a.tar/b.jpg": "it is a sparse file"}


def test_too_many_members_end_the_tar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 3)
    _, problems = listed(made(*((f"{number}.jpg", b"") for number in range(9))))
    assert "more than 3" in problems["a.tar"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=8), st.integers(0, 6000))
def test_damage_anywhere_raises_nothing_and_points_inside_the_file(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(made(*((f"{number}.jpg", bytes(700)) for number in range(4)), ("é" * 80 + ".txt", b"text")))
    for place, value in changes:
        data[place % len(data)] = value
    del data[max(512, cut) :]
    members, _ = list_members(io.BytesIO(bytes(data)), "a.tar")
    for member in members:
        assert isinstance(member, Member)
        assert member.offset >= 512
        assert member.offset + member.size <= len(data)
