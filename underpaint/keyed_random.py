"""Counter-based random numbers: a draw depends on (seed, purpose, position) and on nothing else.

Not on the rank, the worker, the number of steps done or torch's global generator; so 1, 2 and 4 ranks, 0 and 3
workers, and a resumed run draw the same. The mixing function is SplitMix64 (Steele, Lea, Flood 2014), in 64-bit
wrap-around arithmetic, once for Python integers and once for tensors; golden values of it are kept in the tests.
"""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def key(*parts: int | str) -> int:
    """A 63-bit integer from names and numbers, the same on every machine and for ever: ``key(seed, "mae", "mask")``.

    Names of files that are not UTF-8 count by their bytes.
    """
    text = "\x1f".join(f"{type(part).__name__[0]}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "little") >> 1


def mix(key_: int, counter: int) -> int:
    """The ``counter``-th 64-bit output of the stream ``key_``."""
    x = (key_ + (counter + 1) * _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _signed(value: int) -> int:
    """The same 64 bits as a signed integer, which is what torch can hold."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of signed 64-bit integers (torch's own copies the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(key_: Tensor | int, counter: Int64[Tensor, "*_"]) -> Int64[Tensor, "*_"]:
    x = (counter + 1) * _signed(_GOLDEN) + key_
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def mix_all(key_: int, counter: Int64[Tensor, "*_"]) -> Int64[Tensor, "*_"]:
    """``mix`` of many counters at once: the same 64 bits, as signed integers."""
    return _mix(_signed(key_), counter)


def uniform(key_: int, position: Int64[Tensor, " b"], count: int) -> Float[Tensor, "b count"]:
    """``count`` float32 numbers in [0, 1) for each sample, drawn on the device of ``position``.

    The first mix gives every position a stream of its own, the second walks along it.
    """
    stream = _mix(_signed(key_), position)[:, None]
    bits = _mix(stream, torch.arange(count, device=position.device)[None, :])
    return _shift_right(bits, 40).to(torch.float32) * (1.0 / (1 << 24))


def sample_seed(key_: int, position: int) -> int:
    """A 63-bit seed for a library's own generator, one for each sample (crops, flips)."""
    return mix(key_, position) >> 1


def parameter_generator(seed: int, name: str) -> torch.Generator:
    """The generator of one parameter's initial value: the same for any number of ranks and any order of creation."""
    return torch.Generator().manual_seed(key(seed, "init", name))
