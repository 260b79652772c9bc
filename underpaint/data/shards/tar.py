"""A strict reader of tar headers that finds the offsets of members, for shards in the WebDataset layout.

Nothing is ever extracted. Python's own ``tarfile`` would accept more than is wanted here (links, sparse members,
headers of any size). Written against POSIX.1-2001 (ustar, pax) and the GNU tar manual (long names, base-256 numbers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from underpaint.data.decode.formats import EXTENSIONS, RAW
from underpaint.data.shards.archives import packed_with
from underpaint.data.source import Problem

IMAGE_EXTENSIONS = frozenset(extension.removeprefix(".") for extension in EXTENSIONS if extension not in RAW)
TEXT_EXTENSIONS = frozenset({"json", "txt", "cls"})
"""Extensions of accepted members beside images; all others are refused, among them pickles (``.pkl``, ``.pt``)."""

BLOCK = 512
MAX_IMAGE_BYTES = 256 * 1024 * 1024
MAX_TEXT_BYTES = 1024 * 1024
MAX_NAME_BYTES = 4096
MAX_PAX_BYTES = 64 * 1024
MAX_MEMBERS = 2_000_000
"""Largest number of members of a tar; a shard has some thousands, and the keys are held in memory."""
MAX_ZEROS = 64 * 1024 * 1024
"""Largest number of zero bytes after the end mark of a tar, before the next tar; tar pads to some kilobytes."""

_LINKS_AND_DEVICES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}
_CHUNK = 1 << 20
_SIZE_OF_PAX_LINE = 20  # digits of a length, at most


@runtime_checkable
class SeekableFile(Protocol):
    """The file that a tar is read from: an open binary file, one of fsspec, or bytes in memory."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in a tar that may be read."""

    key: str
    """Name up to the first dot behind the last slash; the members of a key are one sample."""
    extension: str
    """Name behind that dot, in lower case, one of IMAGE_EXTENSIONS or TEXT_EXTENSIONS."""
    offset: int
    """Offset of the first byte of the content in the tar."""
    size: int


class _Broken(ValueError):
    """The tar is damaged or cut off, so that the next header cannot be found; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A header, completed by the extended headers before it."""

    name: bytes
    kind: bytes
    offset: int
    size: int
    refusal: str = ""


def list_members(file: SeekableFile, name: str) -> tuple[list[Member], list[Problem]]:
    """The members of a tar in their order, and the refused ones, as ``NAME/MEMBER`` with the reason.

    ``file`` can seek; ``name`` is the name of the tar in the problems. Members of one key need not be adjacent: they
    are joined by ``key`` to whole samples. The first of several images of one key, or of members of one name, counts.
    Folders are skipped. Members before damage or a cut-off end are returned. Further tars after the end mark are read
    (``cat a.tar b.tar``, as ``tar --ignore-zeros`` does), and anything else there is a problem. Raises OSError only
    where ``file`` does.
    """
    members: list[Member] = []
    problems: list[Problem] = []
    taken: set[tuple[str, str]] = set()
    try:
        for entry in _entries(file):
            member = _member(entry)
            if isinstance(member, Member):
                member = _unless_taken(member, taken)
            if isinstance(member, Member):
                members.append(member)
            elif member:
                problems.append(Problem(key=f"{name}/{_shown(entry.name)}", reason=member))
            if len(members) + len(problems) > MAX_MEMBERS:
                raise _Broken(f"it has more than {MAX_MEMBERS} members; what follows is not read")
    except _Broken as error:
        packed = "" if members or problems else _packed(file)
        problems.append(Problem(key=name, reason=packed or str(error)))
    return members, problems


def _packed(file: SeekableFile) -> str:
    """The reason why a file without a readable header is not a tar; "" where its bytes do not show one."""
    file.seek(0)
    program = packed_with(file.read(BLOCK))
    return f"it is not a tar but packed with {program}; unpack it" if program else ""


def _unless_taken(member: Member, taken: set[tuple[str, str]]) -> Member | str:
    of_image = member.extension in IMAGE_EXTENSIONS
    place = (member.key, "image" if of_image else member.extension)
    if place in taken:
        return f"the key '{member.key}' has {'an image' if of_image else 'this member'} already"
    taken.add(place)
    return member


def _member(entry: _Entry) -> Member | str:
    """The member, or the reason why it is refused; "" for an entry that is skipped silently."""
    if entry.kind in _LINKS_AND_DEVICES:
        return f"it is {_LINKS_AND_DEVICES[entry.kind]}"
    if entry.kind == b"5" or (entry.kind in b"0\0" and entry.name.endswith(b"/")):
        return ""
    if entry.kind not in (b"0", b"\0", b"7"):
        return f"it is of the unknown kind {entry.kind!r}"
    if entry.refusal:
        return entry.refusal
    try:
        path = entry.name.decode("utf-8").removeprefix("./")
    except UnicodeDecodeError:
        return "its name is not UTF-8"
    if reason := _unsafe(path):
        return reason
    folder, slash, base = path.rpartition("/")
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    if not stem:
        return "its name has nothing before the first dot"
    if extension not in IMAGE_EXTENSIONS | TEXT_EXTENSIONS:
        return (
            f"members called '.{extension[:32]}' are not read; {', '.join(sorted(IMAGE_EXTENSIONS))}, "
            f"{', '.join(sorted(TEXT_EXTENSIONS))} are"
        )
    most = MAX_IMAGE_BYTES if extension in IMAGE_EXTENSIONS else MAX_TEXT_BYTES
    if entry.size > most:
        return f"it has {entry.size} bytes; at most {most} are read"
    return Member(key=f"{folder}{slash}{stem}", extension=extension, offset=entry.offset, size=entry.size)


def _unsafe(path: str) -> str:
    """The reason why a name is refused, or ""; nothing here writes a file of that name, but a reader of keys might."""
    if path.startswith("/") or "\\" in path or path[1:2] == ":":
        return "its name is an absolute path, or one of Windows"
    if ".." in path.split("/"):
        return "its name leads out of the folder"
    if not path.isprintable():
        return "its name has characters that cannot be printed"
    return ""


def _shown(name: bytes) -> str:
    """A refused name in printable ASCII, for a log."""
    return ascii(name[:200].decode("utf-8", "backslashreplace"))[1:-1]


def _entries(file: SeekableFile) -> Iterator[_Entry]:
    """Yield every header, completed by the extended ones before it; raises _Broken for damage."""
    end, place = file.seek(0, 2), 0
    extended: dict[str, bytes] = {}
    behind_end = False
    while True:
        if behind_end and place == end:
            return
        header = _read(file, place, BLOCK, end)
        if not any(header):
            place, extended, behind_end = _behind_zeros(file, place, end), {}, True
            continue
        kind, size = header[156:157], _header_size(header, place)
        behind_end = False
        start = place + BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            extended |= _extension(file, kind, start, size, end)
        else:
            size = _pax_size(extended, size)
            yield _entry(header, extended, start, size, end)
            extended = {}
            # Links, devices and folders have no content, whatever their size says (POSIX); a pax size applies to files.
            size = 0 if kind in b"123456" else size
        place = start + -(-size // BLOCK) * BLOCK


def _behind_zeros(file: SeekableFile, place: int, end: int) -> int:
    """The offset of the header behind the zeros that end a tar, or of the end of the file.

    Raises _Broken where other bytes follow.
    """
    stop = min(end, place + MAX_ZEROS)
    at = place
    while at < stop:
        chunk = _read(file, at, min(_CHUNK, stop - at), end)
        if any(chunk):
            at += len(chunk) - len(chunk.lstrip(b"\0"))
            break
        at += len(chunk)
    if at == end:
        return end
    start = at - (at - place) % BLOCK
    try:
        _header_size(_read(file, start, BLOCK, end), start)
    except _Broken as error:
        raise _Broken(f"{end - start} bytes behind its end mark are not a tar, and are not read") from error
    return start


def _entry(header: bytes, extended: dict[str, bytes], start: int, size: int, end: int) -> _Entry:
    kind = header[156:157]
    name = extended.get("path", _header_name(header))
    refusal = ""
    if any(key.startswith("GNU.sparse") for key in extended):
        refusal = "it is a sparse file"
    if kind not in b"123456" and start + size > end:
        raise _Broken(f"it is cut off inside the member {_shown(name)}")
    return _Entry(name=name, kind=kind, offset=start, size=size, refusal=refusal)


def _read(file: SeekableFile, place: int, size: int, end: int) -> bytes:
    if place + size > end:
        raise _Broken(f"it is cut off: it has {end} bytes and no mark of its end")
    file.seek(place)
    data = file.read(size)
    if len(data) != size:
        raise _Broken(f"it is cut off: {len(data)} of {size} bytes could be read at {place}")
    return data


def _header_size(header: bytes, place: int) -> int:
    """The size that a header states; raises _Broken for a wrong checksum."""
    stated = _number(header[148:156], place)
    if stated != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise _Broken(f"the header at {place} is damaged: its checksum is wrong")
    return _number(header[124:136], place)


def _number(field: bytes, place: int) -> int:
    """The number in a field, as octal digits or, as GNU tar writes large ones, in base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits or any(digit not in b"01234567" for digit in digits):
        raise _Broken(f"the header at {place} is damaged: {field!r} is not a number")
    return int(digits, 8)


def _header_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _extension(file: SeekableFile, kind: bytes, start: int, size: int, end: int) -> dict[str, bytes]:
    """The fields by which a pax header or a GNU long name replaces those of the next header."""
    most = MAX_PAX_BYTES if kind in b"xg" else MAX_NAME_BYTES + 1
    if size > most:
        raise _Broken(f"an extended header of {size} bytes at {start - BLOCK} is refused; at most {most} are read")
    data = _read(file, start, size, end)
    if kind == b"K":
        return {}  # the target of a link, which is refused itself
    if kind == b"L":
        return {"path": data.split(b"\0", 1)[0]}
    pairs = _pax_pairs(data, start)
    if kind == b"x":
        return pairs
    if pairs.keys() & {"path", "size"}:
        raise _Broken("a global header gives all members one name or size")
    return {}


def _pax_pairs(data: bytes, place: int) -> dict[str, bytes]:
    """The keys and values of the lines ``LENGTH KEY=VALUE`` of a pax header."""
    pairs: dict[str, bytes] = {}
    while data:
        digits, space, _ = data[: _SIZE_OF_PAX_LINE + 1].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        line = data[len(digits) + 1 : length]
        key, equals, value = line.partition(b"=")
        if not (len(digits) + 1 < length <= len(data) and equals and value.endswith(b"\n")):
            raise _Broken(f"the extended header at {place - BLOCK} is damaged")
        pairs[key.decode("utf-8", "backslashreplace")] = value[:-1]
        data = data[length:]
    return pairs


def _pax_size(extended: dict[str, bytes], size: int) -> int:
    stated = extended.get("size")
    if stated is None:
        return size
    if not stated.isdigit() or len(stated) > _SIZE_OF_PAX_LINE:
        raise _Broken(f"an extended header states the size {stated[:40]!r}")
    return int(stated)
