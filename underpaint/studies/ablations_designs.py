"""Designs of the study ``ablations`` at each size: the base point, and the axes that lead away from it.

Every axis changes one thing. MAE and WSP keep the samples they have at the base point, on the axis ``mae_share`` the
sum of their training FLOPs is kept instead. The changes of a value are written as on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from underpaint import recipes
from underpaint.models.sizes import SIZES
from underpaint.run import Run
from underpaint.studies.designs import Size, design_of
from underpaint.studies.parts import THREADS


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of an axis; the one that changes nothing is the base point."""

    name: str  # as printed
    x: float  # where it is drawn
    mae: tuple[str, ...] = ()  # fields of the recipe of MAE
    wsp: tuple[str, ...] = ()  # fields of the recipe of WSP
    mae_share: float | None = None  # of the training FLOPs of the base point, whose sum is kept

    @property
    def is_base(self) -> bool:
        return not self.mae and not self.wsp and self.mae_share is None


@dataclass(frozen=True, kw_only=True)
class Axis:
    name: str
    title: str
    label: str  # of the axis in a picture
    note: str  # what stays the same along it
    values: tuple[Value, ...]

    @property
    def base(self) -> Value:
        return next(value for value in self.values if value.is_base)


@dataclass(frozen=True, kw_only=True)
class AblationsDesign:
    """Everything that tells one size of the study from another."""

    mae: Run  # as long as mae_share says
    wsp: Run
    mae_share: float  # of the training FLOPs of the base point
    axes: tuple[Axis, ...]
    images: str
    transfer: tuple[str, ...]
    shots: tuple[int, ...] = (5,)
    seeds: tuple[int, ...] = (0, 1, 2)


def ablations_design_of(size: Size) -> AblationsDesign:
    design = _DESIGNS[size]()
    return replace(design, mae=replace(design.mae, threads=THREADS), wsp=replace(design.wsp, threads=THREADS))


def _smoke() -> AblationsDesign:
    """Fewer values than the larger sizes: what is there is run in the same way."""
    mae, wsp = recipes.mae_smoke(), recipes.wsp_smoke()
    return AblationsDesign(
        mae=mae,
        wsp=replace(wsp, budget=replace(wsp.budget, samples=640, warmup=64)),
        mae_share=0.4,
        axes=(
            _mae_share((0.0, 0.4, 1.0), base=0.4),
            _tagged((0.5, 1.0)),
            _wsp_rate((0.5, 1.0), wsp),
            _decoder(((16, 1, 2), (16, 2, 2)), mae),
            _pixels(((24, 8), (32, 8)), mae),
            _mask_ratio((0.75, 0.9), mae),
            _images((0.5, 1.0)),
        ),
        images=design_of("smoke").images,
        transfer=design_of("smoke").transfer,
        seeds=(0,),
    )


def _tiny() -> AblationsDesign:
    return _whole(recipes.mae_laptop(), recipes.wsp_laptop(), samples=4_800, like="tiny")


def _small() -> AblationsDesign:
    """The images and recipes of ``stages`` at this size with its smaller network: there are some fifty runs a seed."""
    mae, wsp = recipes.mae_small(), recipes.wsp_small()
    smaller = SIZES["vit_laptop8"]
    mae = replace(mae, objective=replace(mae.objective, encoder=smaller))
    wsp = replace(wsp, objective=replace(wsp.objective, encoder=replace(smaller, positions="sincos_trained")))
    return _whole(mae, wsp, samples=96_000, like="small")


def _whole(mae: Run, wsp: Run, *, samples: int, like: Size) -> AblationsDesign:
    """All axes around a base point of so many samples of WSP."""
    cadence = replace(wsp.cadence, save=10_000_000, evaluate=10_000_000)  # once, at the end: runs are short
    wsp = replace(wsp, budget=replace(wsp.budget, samples=samples, warmup=samples // 10), cadence=cadence)
    return AblationsDesign(
        mae=replace(mae, cadence=cadence),
        wsp=wsp,
        mae_share=0.4,
        axes=(
            _mae_share((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), base=0.4),
            _tagged((0.05, 0.25, 1.0)),
            _wsp_rate((0.25, 1.0, 4.0), wsp),
            _layer_decay((0.65, 0.8, 1.0), wsp),
            _decoder(((32, 1, 4), (64, 1, 4), (96, 4, 4)), mae),
            _pixels(((32, 8), (48, 8), (48, 6)), mae),
            _mask_ratio((0.5, 0.75, 0.9), mae),
            _images((0.25, 0.5, 1.0)),
        ),
        images=design_of(like).images,
        transfer=design_of(like).transfer,
    )


def _mae_share(shares: tuple[float, ...], *, base: float) -> Axis:
    return Axis(
        name="mae_share",
        title="Share of MAE in the compute",
        label="share of MAE in the training FLOPs",
        note="The training FLOPs of MAE and WSP together stay those of the base point. At 0 there is WSP alone, at 1 "
        "MAE alone.",
        values=tuple(Value(name=f"{s:g}", x=s, mae_share=None if s == base else s) for s in shares),
    )


def _tagged(shares: tuple[float, ...]) -> Axis:
    return Axis(
        name="tagged",
        title="Share of the images that have tags",
        label="share of the images whose tags are used",
        note="MAE sees all images. WSP keeps its steps, on the images that have tags alone.",
        values=tuple(Value(name=f"{s:g}", x=math.log2(s), wsp=_unless(s == 1, f"data.share={s}")) for s in shares),
    )


def _wsp_rate(factors: tuple[float, ...], wsp: Run) -> Axis:
    return Axis(
        name="wsp_rate",
        title="Learning rate of WSP",
        label="learning rate of WSP, in that of the recipe",
        note="The same rate for WSP in every arm. The recipe's rate was chosen for WSP from scratch.",
        values=tuple(
            Value(name=f"{f:g}", x=math.log2(f), wsp=_unless(f == 1, f"optim.base_lr={wsp.optim.base_lr * f:g}"))
            for f in factors
        ),
    )


def _layer_decay(decays: tuple[float, ...], wsp: Run) -> Axis:
    return Axis(
        name="layer_decay",
        title="Gentler rates for the lower layers in WSP",
        label="factor of WSP's rate from one block to the block below",
        note="The same factor for WSP in every arm, WSP from scratch included.",
        values=tuple(Value(name=f"{d:g}", x=d, wsp=_changes(wsp, **{"optim.layer_decay": d})) for d in decays),
    )


def _decoder(shapes: tuple[tuple[int, int, int], ...], mae: Run) -> Axis:
    """Axis of decoders with the shapes (width, depth, heads)."""
    fields = ("width", "depth", "heads")
    return Axis(
        name="decoder",
        title="Decoder of MAE",
        label="width x depth of the decoder",
        note="MAE keeps its samples, so a larger decoder costs more, and WSP at equal compute is longer.",
        values=tuple(
            Value(
                name=f"{shape[0]}x{shape[1]}",
                x=float(number),
                mae=_changes(mae, **{f"objective.decoder.{f}": v for f, v in zip(fields, shape, strict=True)}),
            )
            for number, shape in enumerate(shapes)
        ),
    )


def _pixels(shapes: tuple[tuple[int, int], ...], mae: Run) -> Axis:
    """Axis of the shapes (side of the image, side of a patch), drawn by the number of patches."""
    values = []
    for side, patch in shapes:
        changed = _changes(mae, **{"objective.encoder.size": (side, side), "objective.encoder.patch": patch})
        values.append(Value(name=f"{side}/{patch}", x=float((side // patch) ** 2), mae=changed, wsp=changed))
    return Axis(
        name="pixels",
        title="Image size and patch",
        label="pixels of the image's side / of a patch's",
        note="Both stages and the evaluation see the images at this size; samples are kept.",
        values=tuple(values),
    )


def _mask_ratio(ratios: tuple[float, ...], mae: Run) -> Axis:
    return Axis(
        name="mask_ratio",
        title="Mask ratio of MAE",
        label="share of the patches that are hidden",
        note="MAE keeps its samples: the more is hidden, the less a sample costs.",
        values=tuple(Value(name=f"{r:g}", x=r, mae=_changes(mae, **{"objective.mask_ratio": r})) for r in ratios),
    )


def _images(shares: tuple[float, ...]) -> Axis:
    return Axis(
        name="images",
        title="Number of images",
        label="share of the images",
        note="MAE and WSP see the same share of all images and keep their samples: fewer images are seen more often.",
        values=tuple(
            Value(name=f"{s:g}", x=math.log2(s), mae=changed, wsp=changed)
            for s in shares
            for changed in [_unless(s == 1, f"data.share={s}")]
        ),
    )


def _unless(base: bool, change: str) -> tuple[str, ...]:
    return () if base else (change,)


def _changes(run: Run, **fields: object) -> tuple[str, ...]:
    """The fields as assignments, without those that have the value already."""
    changes = []
    for name, value in fields.items():
        current: object = run
        for part in name.split("."):
            current = getattr(current, part)
        if current != value:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            changes.append(f"{name}={text}")
    return tuple(changes)


_DESIGNS: dict[Size, Callable[[], AblationsDesign]] = {"smoke": _smoke, "tiny": _tiny, "small": _small}
