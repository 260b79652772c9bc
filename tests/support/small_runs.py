"""Small real runs for the tests: a generated folder with tags and classes, and a run of each stage on it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from underpaint.core import Objective
from underpaint.data.dataset import ImageData
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import ClassifyConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.run import Budget, Cadence, Run
from underpaint.training.optim import OptimConfig

COLOURS = {"red": (220, 40, 30), "green": (30, 190, 60), "blue": (40, 60, 220), "black": (20, 20, 20)}
SHAPES = ("wide", "tall")
ENCODER = ViTConfig(size=(16, 16), patch=4, width=16, depth=2, heads=2)
BATCH = 16
EVERY_STEP = Cadence(log=BATCH, save=2 * BATCH, keep=1_000_000, evaluate=3 * BATCH)


def make_images(folder: Path, count: int = 160) -> Path:
    """Boxes on noise in 4 colours and 2 shapes; ``tags.csv`` names both, ``labels.csv`` has the colour as the class."""
    rng = np.random.default_rng(0)
    (folder / "a" / "b").mkdir(parents=True)
    tags, labels = [("path", "tags")], [("path", "class")]
    for index in range(count):
        colour, shape = list(COLOURS)[index % 4], SHAPES[index // 4 % 2]
        pixels = rng.integers(200, 256, size=(20, 24, 3), dtype=np.uint8)
        height, width = (5, 11) if shape == "wide" else (11, 5)
        top, left = rng.integers(0, 20 - height), rng.integers(0, 24 - width)
        pixels[top : top + height, left : left + width] = COLOURS[colour]
        name = f"{'a' if index % 3 else 'a/b'}/{index:03d}.png"
        Image.fromarray(pixels).save(folder / name)
        tags.append((name, f"{colour};{shape}"))
        labels.append((name, colour))
    for file, rows in (("tags.csv", tags), ("labels.csv", labels)):
        with (folder / file).open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    return folder


def make_textures(folder: Path, count: int = 160) -> Path:
    """The same with a texture instead of each image, lest most are near duplicates of each other."""
    make_images(folder, count)
    rng = np.random.default_rng(0)
    for file in sorted(folder.rglob("*.png")):
        texture = rng.integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
        Image.fromarray(texture).resize((24, 20), Image.Resampling.BILINEAR).save(file)
    return folder


def mae_run(images: Path, *, steps: int = 6) -> Run:
    return Run(
        name="mae_test",
        objective=MAEConfig(encoder=ENCODER, decoder=DecoderConfig(width=16, depth=1, heads=2)),
        data=ImageData(source=str(images), labels=str(images / "labels.csv"), scale=(0.4, 1.0)),
        budget=Budget(samples=steps * BATCH, batch_size=BATCH, microbatch=BATCH // 2, warmup=BATCH),
        optim=OptimConfig(base_lr=2e-2),
        cadence=EVERY_STEP,
        threads=1,
        device="cpu",
    )


def wsp_run(images: Path, *, steps: int = 6) -> Run:
    mae = mae_run(images, steps=steps)
    return replace(
        mae,
        name="wsp_test",
        objective=ClassifyConfig(encoder=replace(ENCODER, positions="sincos_trained"), init="mae"),
        data=replace(mae.data, targets="tags"),
        optim=OptimConfig(base_lr=2e-2, weight_decay=0.1, clip=1.0),
        ema_decay=0.5,
    )


def finetune_run(images: Path, *, steps: int = 6) -> Run:
    mae = mae_run(images, steps=steps)
    return replace(
        mae,
        name="finetune_test",
        objective=ClassifyConfig(
            encoder=replace(ENCODER, positions="sincos_trained"),
            stage="finetune",
            drop_path=0.5,
            label_smoothing=0.1,
            head_init_std=0.02,
        ),
        data=replace(mae.data, split="train", targets="class"),
        optim=OptimConfig(base_lr=1e-2, betas=(0.9, 0.999), layer_decay=0.75, decay_tokens=False),
    )


def linear_run(images: Path, *, steps: int = 6) -> Run:
    mae = mae_run(images, steps=steps)
    return replace(
        mae,
        name="linear_test",
        objective=ClassifyConfig(
            encoder=ENCODER, stage="linear", frozen_encoder=True, batch_norm=True, head_init_std=0.01
        ),
        data=replace(mae.data, split="train", targets="class"),
        optim=OptimConfig(name="lars", base_lr=1.0, weight_decay=0.0),
        ema_decay=0.9,
    )


RUNS = {"mae": mae_run, "wsp": wsp_run, "finetune": finetune_run, "linear": linear_run}


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log without what the clock says."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    timed = {"seconds", "images_per_second", "clock"}
    return [{name: v for name, v in line.items() if name not in timed} for line in lines]


def tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the last checkpoint and of the product: weights, average, moments, buffers."""
    last = max((folder / "checkpoints").glob("step-????????"))
    files = [*last.glob("*.safetensors"), folder / "model" / "model.safetensors"]
    files += (folder / "encoder").glob("model.safetensors")  # a detector hands over none
    return {
        f"{file.parent.name}/{file.name}/{name}": value for file in files for name, value in load_file(file).items()
    }


def assert_same_bits(folder: Path, other: Path) -> None:
    mine, theirs = tensors(folder), tensors(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name
    assert log_lines(folder) == log_lines(other)
    mine_result, their_result = (json.loads((f / "result.json").read_text()) for f in (folder, other))
    timed = {"wall_seconds", "images_per_second", "clock"}
    assert {k: v for k, v in mine_result.items() if k not in timed} == {
        k: v for k, v in their_result.items() if k not in timed
    }


def python(
    code: str, *arguments: str | Path, new_group: bool = False, cwd: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """A Python process that can import this module; its arguments are in ``sys.argv[1:]``."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=new_group,
    )


def underpaint(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, as a person runs it."""
    command = "import sys; from underpaint.__main__ import main; sys.exit(main())"
    process = python(command, *arguments, new_group=False, cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """An evaluation that takes its time, so that a signal can come in the middle of a run."""

    seconds: float
    needs: ClassVar[type] = Objective

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        time.sleep(self.seconds)
        return {}


@dataclass(frozen=True, kw_only=True)
class SendSignal:
    """An evaluation during which a signal arrives."""

    number: int
    needs: ClassVar[type] = Objective

    def __call__(self, objective: nn.Module) -> dict[str, float]:
        os.kill(os.getpid(), self.number)
        return {}


def recipe() -> Run:
    """For the command line: ``SMALL_RUN`` names the run, ``SMALL_IMAGES`` its images."""
    run = RUNS[os.environ.get("SMALL_RUN", "mae")](Path(os.environ["SMALL_IMAGES"]))
    return replace(run, evals=(Sleep(seconds=float(os.environ.get("SMALL_SLEEP", "0"))),))
