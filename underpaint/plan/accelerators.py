"""The devices a plan can be made for: vendor data sheets, with what is assumed of them in practice.

Peaks are dense rates in FLOPs per second; memory is what the driver reports as the whole. Every plan shows the
assumptions it rests on: the share of the peak that training reaches (``mfu``) and the reach of the links (LINK_SHARE).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

GIB = 1 << 30
GB = 10**9
TERA = 10**12

LINK_SHARE = 0.7
"""Part of a link's nominal rate that large collectives reach: an assumption."""
FRAGMENTATION = 0.08
"""Part of a GPU's memory that torch's allocator cannot use: an assumption (infra: add 10 to 20% to an estimate)."""


@dataclass(frozen=True, kw_only=True)
class Device:
    name: str
    memory: int  # bytes
    bf16: float  # peak FLOPs per second, dense, fp32 accumulation
    fp32: float  # without TF32, as torch multiplies fp32 by default
    bandwidth: float  # bytes per second of its memory
    link: float  # bytes per second and direction to the other GPUs of its node
    network: float  # bytes per second and GPU to other nodes: an assumption about the cluster
    mfu: float  # part of the peak that training reaches: an assumption
    float8: bool = True  # whether its tensor cores multiply float8
    reserve: int = 3 * GIB // 2  # driver context, cuBLAS and NCCL, outside of torch's allocator: an assumption

    @property
    def usable(self) -> int:
        """Bytes that torch's allocator can hand out."""
        share = 1.0 if self.is_cpu else 1 - FRAGMENTATION
        return int(self.memory * share) - self.reserve

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


def _gpu(
    name: str,
    gib: float,
    tflops: tuple[float, float],
    gb_s: tuple[float, float, float],
    *,
    mfu: float = 0.45,
    float8: bool = True,
) -> Device:
    """A device, from memory in GiB, bf16 and fp32 peaks in TFLOPs, and memory, link and network in GB/s."""
    bandwidth, link, network = gb_s
    return Device(
        name=name,
        memory=int(gib * GIB),
        bf16=tflops[0] * TERA,
        fp32=tflops[1] * TERA,
        bandwidth=bandwidth * GB,
        link=link * GB,
        network=network * GB,
        mfu=mfu,
        float8=float8,
    )


# Network: 400 Gb/s a GPU where eight are sold as one machine with as many network cards (200 Gb/s for the A100), else
# 25 Gb/s shared by the GPUs of a cloud machine. PCIe 4 x16 is 32 GB/s nominal, half where a card has 8 lanes.
GPUS = {
    device.name: device
    for device in (
        # NVIDIA A100 data sheet (SXM4): 312 bf16, 19.5 fp32, NVLink 600 GB/s both ways
        _gpu("a100-40", 40.0, (312, 19.5), (1555, 300, 25), float8=False),
        _gpu("a100-80", 80.0, (312, 19.5), (2039, 300, 25), float8=False),
        # NVIDIA H100 data sheet (SXM5): 989.4 bf16, 67 fp32, NVLink 900 GB/s both ways
        _gpu("h100", 79.6, (989.4, 67), (3350, 450, 50)),
        # NVIDIA H200 data sheet (SXM5): H100 with 141 GB
        _gpu("h200", 140.4, (989.4, 67), (4800, 450, 50)),
        # NVIDIA HGX B200 data sheet, one of eight: 2,250 bf16, 75 fp32, 180 GB, NVLink 1.8 TB/s both ways
        _gpu("b200", 179.0, (2250, 75), (7700, 900, 50), mfu=0.40),
        # NVIDIA L4 data sheet: 121 bf16 (242 with sparsity), 30.3 fp32, 24 GB, PCIe 4 x16
        _gpu("l4", 22.5, (121, 30.3), (300, 32, 3)),
        # NVIDIA A10G data sheet: 70 bf16 (140 with sparsity), 35 fp32, 24 GB, PCIe 4 x16
        _gpu("a10g", 22.5, (70, 35), (600, 32, 3), float8=False),
        # NVIDIA Ada architecture white paper: 165.2 bf16 with fp32 accumulation, 82.6 fp32, 24 GB, PCIe 4 x16
        _gpu("rtx4090", 23.9, (165.2, 82.6), (1008, 32, 3)),
        # AMD MI300X data sheet: 1,307.4 bf16, 163.4 fp32, 192 GB, Infinity Fabric 896 GB/s both ways
        _gpu("mi300x", 191.9, (1307.4, 163.4), (5300, 448, 50), mfu=0.35),
    )
}


def find_device(name: str) -> Device:
    """A device by name; "cpu" is this machine.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "cpu":
        return _this_machine()
    if name not in GPUS:
        raise ValueError(f"unknown device {name!r}; known are {', '.join([*GPUS, 'cpu'])}")
    return GPUS[name]


def _this_machine() -> Device:
    """Its memory; the rates come from rates.py. Python with torch and the package takes about 0.7 GB by itself."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(
        name="cpu",
        memory=memory,
        bf16=0.0,
        fp32=0.0,
        bandwidth=0.0,
        link=1.25 * GB,
        network=1.25 * GB,  # 10 Gb/s Ethernet
        mfu=1.0,
        float8=False,
        reserve=GIB,
    )
