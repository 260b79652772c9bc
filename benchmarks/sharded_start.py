"""Memory of each rank while FSDP2 starts from a trained encoder, beside its share of the weights.

    PYTHONPATH=. python benchmarks/sharded_start.py --ranks 2 [--width 1664] [--depth 30] [--folder DIR]

Writes an encoder of about 10^9 random weights, starts so many processes with ``init_from`` naming it and
``parallel.layout=fsdp``, and samples the anonymous memory of each (beside mapped files) a hundred times a second. A
first start from an encoder of the same depth and little width loads the code; what it holds is not counted. Exits with
1 if a rank took more than its share of the weights and the largest tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from import_large import watched

from underpaint import config as configs
from underpaint import recipes
from underpaint.core import DataInfo
from underpaint.models.pieces import Derived, Info
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import save_tensors
from underpaint.objectives.classify import LabelClassifierConfig
from underpaint.run.build import build_state
from underpaint.run.declare import Run
from underpaint.training.parallel import ParallelConfig
from underpaint.training.ranks import join

CLASSES = 1000
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--width", type=int, default=1664)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--folder", help="for a temporary folder in it")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a rank's own call
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        large = ViTConfig(size=(224, 224), patch=14, width=options.width, depth=options.depth, heads=16)
        for called, config in (("small", replace(large, width=64)), ("large", large)):
            write_encoder(Path(name) / called, config)
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.ranks}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, __file__, "--measure", name]
        subprocess.run(command, check=True, env=environment)
        lines = [json.loads(path.read_text()) for path in sorted(Path(name).glob("rank-*.json"))]
    print("rank | weights | share and largest tensor | peak | held afterwards (MiB)")
    for rank, line in enumerate(lines):
        print(rank, *(f"{line[key] / MIB:,.0f}" for key in ("weights", "allowed", "peak", "held")), sep=" | ")
    return int(any(line["peak"] > line["allowed"] for line in lines))


def write_encoder(folder: Path, config: ViTConfig) -> None:
    """An encoder of random weights, one tensor in memory at a time."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in ViT(config).state_dict().items()}
    info = {name: Info(tuple(shape), torch.float32) for name, shape in shapes.items()}
    tensors = Derived(info, lambda name: torch.randn(shapes[name]) * 0.02)
    save_tensors(folder, tensors, {"type": "vit", "config": configs.record(config)})


def measure(folder: Path) -> int:
    """One rank's start from both encoders; what it took goes into a file."""
    ranks = join()
    start(folder / "small")
    before = anonymous()
    peak: list[int] = []
    with watched(peak):
        network = start(folder / "large")
    sizes = [value.numel() * value.element_size() for value in network.state_dict().values()]
    taken = {"peak": max(peak) - before, "held": anonymous() - before}
    expected = {"weights": sum(sizes), "allowed": sum(sizes) // ranks.world + max(sizes)}
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps({**taken, **expected}))
    return 0


def start(encoder: Path) -> torch.nn.Module:
    config = json.loads((encoder / "config.json").read_text("utf-8"))["config"]
    run = run_from(encoder, configs.from_record(ViTConfig, config, where=str(encoder)))
    labels = tuple(f"class {number}" for number in range(CLASSES))
    return build_state(run, DataInfo(seed=0, labels=labels), torch.device("cpu"), join()).objective


def run_from(encoder: Path, config: ViTConfig) -> Run:
    run = recipes.finetune_laptop()
    assert isinstance(run.objective, LabelClassifierConfig)
    objective = replace(run.objective, encoder=config, shape_from_start=False)
    layout = ParallelConfig(layout="fsdp")
    return replace(run, objective=objective, init_from=str(encoder), parallel=layout, precision="fp32", ema_decay=0.0)


def anonymous() -> int:
    lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    sys.exit(main())
