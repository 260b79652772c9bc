"""Files with seeded damage: flipped bits, cuts, insertions, repeats, other line ends, and words in wrong places."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

WORDS = (
    *(
        b"null",
        b"-1",
        b"0",
        b"1e999",
        b"NaN",
        b"true",
        b"[]",
        b"{}",
        b'"',
        b"\\",
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
    ),
    *(
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xff" * 8,
        b"\x7f\xff\xff\xff",
        b"99999999999999999999999",
    ),
    *(b"[" * 3000, b"9" * 5000, b"<", b"&a;", b"\x1c", b"..", b"/", b"a" * 300),
)
"""Inserted or put in the place of others: values that no field expects, and marks of the formats."""

_TOKEN = re.compile(rb"[A-Za-z_]+|-?\d[\d.eE+-]*|[^\sA-Za-z0-9]")


def _flip(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _overwrite(data: bytearray, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    word = chance.choice((*WORDS, bytes(chance.randrange(1, 64)), chance.randbytes(chance.randrange(1, 16))))
    data[place : place + len(word)] = word
    return bytes(data)


def _insert(data: bytearray, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.choice((*WORDS, chance.randbytes(chance.randrange(1, 600))))
    return bytes(data)


def _truncate(data: bytearray, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def _behead(data: bytearray, chance: random.Random) -> bytes:
    return bytes(data[chance.randrange(len(data)) :])


def _delete(data: bytearray, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    del data[place : place + chance.randrange(1, 1 + max(1, len(data) // 4))]
    return bytes(data)


def _repeat(data: bytearray, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    part = data[place : place + chance.randrange(1, 600)]
    target = chance.randrange(len(data) + 1)
    data[target:target] = part
    return bytes(data)


def _line_ends(data: bytearray, chance: random.Random) -> bytes:
    ends = (b"\r", b"\r\n", b"\n\n", b"\r\r\n", b"\x0b", "\u2028".encode(), b" ")
    return bytes(data).replace(b"\n", chance.choice(ends))


def _token(data: bytearray, chance: random.Random) -> bytes:
    """One word or number of the text becomes another value."""
    tokens = list(_TOKEN.finditer(data[: 1 << 16]))
    if tokens:
        start, end = chance.choice(tokens).span()
        data[start:end] = chance.choice(WORDS)
    return bytes(data)


MUTATIONS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    *(_flip, _flip, _overwrite, _insert, _truncate, _behead, _delete, _repeat, _line_ends, _token, _token),
)


def mutations(data: bytes, count: int, *, seed: str) -> Iterator[bytes]:
    """``count`` damaged copies; the same ones for the same seed. One in three is damaged twice."""
    chance = random.Random(seed)
    for _ in range(count):
        damaged = data
        for _ in range(chance.choice((1, 1, 2))):
            damaged = chance.choice(MUTATIONS)(bytearray(damaged), chance) if damaged else damaged
        yield damaged
