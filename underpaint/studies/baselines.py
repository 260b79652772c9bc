"""Imported encoders as arms of a study, to compare training on the user's own images with a download.

A baseline is shown images in the way it was trained for (its size, its crop where it has one, its normalisation), the
arms as they were trained. Both go through the same protocols, including finetuning with the recipe's budget and rates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from underpaint import config
from underpaint.models.vit import ViTConfig
from underpaint.models.weights import (
    encoder_folder,
    load_encoder,
    read_description,
    read_encoder_config,
    save_encoder,
)
from underpaint.objectives.classify import LabelClassifierConfig
from underpaint.run import Run

REMARK = "Training images of the baselines ({}): they may hold the test images of these tasks."


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An encoder that this study does not train."""

    name: str
    folder: Path  # encoder/ of an import or a run, outside the study
    config: ViTConfig  # as stored; in studies that train, with the stored pixel values of the study's images
    checksum: str
    origin: dict[str, object]  # file, format and licence; {} unless it was imported

    @property
    def part(self) -> str:
        """The part of the study that copies it, and the folder of the copy."""
        return part_of(self.name)

    def copy_into(self, study: Path) -> dict[str, object]:
        """Put the encoder into the study's folder, which then needs the outside one no more."""
        encoder = load_encoder(self.folder)
        encoder.config = self.config
        save_encoder(study / self.part / "encoder", encoder, self.origin or None)
        outer = self.folder.parent if self.folder.name == "encoder" else self.folder
        counted = sum(p.numel() for p in encoder.parameters())
        return self.describe() | {"folder": str(outer), "parameters": counted}

    def describe(self) -> dict[str, object]:
        """Description for the report, and the identity of the file that the copy is made from."""
        return {
            "arm": self.name,
            "format": self.origin.get("format", ""),
            "file": self.origin.get("file", ""),
            "licence": self.origin.get("licence", ""),
            "xxh3": self.checksum,
            "encoder": config.record(self.config),
        }

    def finetuned(self, run: Run) -> Run:
        """The study's finetuning with this encoder: sin-cos positions are trained as the arms' are.

        A final norm is new where the baseline has none; with the mean of the tokens, which has its own, there is none.
        """
        assert isinstance(run.objective, LabelClassifierConfig), type(run.objective).__name__
        positions = "sincos_trained" if self.config.positions == "sincos" else self.config.positions
        encoder = replace(self.config, positions=positions, final_norm=run.objective.pooling != "mean")
        return replace(run, objective=replace(run.objective, encoder=encoder))


def part_of(name: str) -> str:
    return f"baseline-{name}"


def open_baselines(folders: Sequence[str], *, taken: Sequence[str], like: ViTConfig) -> tuple[Baseline, ...]:
    """The baselines of a study; ``taken`` are the names of its arms, ``like`` the encoder of its arms.

    Raises:
        ValueError: for a folder without an encoder, one that takes other channels than the study's images have, or a
            name that stands for something else already.
    """
    baselines: list[Baseline] = []
    for folder in folders:
        baseline = _like(open_encoder(folder), like, given=folder)
        if baseline.name in taken or baseline.name in {earlier.name for earlier in baselines}:
            what = "an arm of the study" if baseline.name in taken else "another baseline"
            raise ValueError(f"the baseline {folder} is called {baseline.name!r}, as is {what}; rename its folder")
        baselines.append(baseline)
    return tuple(baselines)


def _like(baseline: Baseline, like: ViTConfig, *, given: str) -> Baseline:
    """The baseline with the stored pixel values of the study's images."""
    if baseline.config.channels != like.channels:
        raise ValueError(
            f"the baseline {given} takes images of {baseline.config.channels} channels, those of the study have "
            f"{like.channels}"
        )
    return replace(baseline, config=replace(baseline.config, value_range=like.value_range))


def open_encoder(given: str) -> Baseline:
    """The encoder of a finished run or of an import, called after its folder.

    Raises:
        ValueError: if there is none, or the run has not finished.
    """
    folder = encoder_folder(Path(given))
    description = read_description(folder)
    if description.get("type") != "vit":
        raise ValueError(f"{given} holds a {description.get('type')!r}, not an encoder; give a run or its encoder/")
    outer = folder.resolve().parent if folder.name == "encoder" else folder.resolve()
    return Baseline(
        name=re.sub(r"[^A-Za-z0-9._-]+", "_", outer.name).strip("._-") or "baseline",
        folder=folder,
        config=read_encoder_config(folder),
        checksum=description["weights"]["xxh3"],
        origin=description.get("origin") or {},
    )
