"""Designs of the study ``scaling`` at each size: models of several widths, and nested shares of the images.

Every point of the grid sees the same samples, so that fewer images are seen more often; rates and budgets are those of
the recipes at every point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from underpaint import recipes
from underpaint.models.vit import ViTConfig
from underpaint.run import Budget, Run, encoder_of
from underpaint.studies.designs import MAE, MAE_WSP, RANDOM, WSP, Arm, Size, design_of
from underpaint.studies.parts import THREADS

GRID = (MAE, WSP, MAE_WSP)
"""Arms at every point."""
SWAPPED_MAE = Arm(
    name="swapped_mae",
    label="MAE on other images",
    description="as many samples, of another collection",
    role="variant",
    stage="mae",
)
SWAPPED = Arm(
    name="swapped_mae_wsp",
    label="MAE on other images then WSP",
    description="the same WSP, after MAE on another collection",
    role="variant",
    stage="wsp",
    start="swapped_mae",
)
SINGLE = Arm(
    name="single_wsp",
    label="WSP with one label per image",
    description="from scratch, only the rarest label of each image",
    role="variant",
    stage="wsp",
    overrides=("data.labels_per_image=1",),
)
SINGLE_AFTER_MAE = replace(
    SINGLE,
    name="single_mae_wsp",
    label="MAE then WSP with one label per image",
    description="the same, from the weights of MAE",
    start="mae",
)
AT_BASE = (SWAPPED_MAE, SWAPPED, SINGLE, SINGLE_AFTER_MAE)
"""Arms on all images at the middle width alone (paper.md C14 and C15)."""
ARMS = (RANDOM, *GRID, *AT_BASE)
UNMEASURED = (SWAPPED_MAE,)
"""Arms that others start from, and nothing else."""
FINETUNED_ALONE = (MAE,)
"""Arms without scores on frozen features, as in the paper's Figure 2."""


@dataclass(frozen=True, kw_only=True, order=True)
class Point:
    """A point of the grid."""

    width: int
    share: float  # of the images

    @property
    def name(self) -> str:
        return f"w{self.width}-i{self.share:.6g}"

    @property
    def model(self) -> str:
        return f"width {self.width}"

    def run_of(self, arm: str, seed: int) -> str:
        """The part that trains an arm at this point."""
        return f"{arm}-{self.name}-seed{seed}"

    def label_of(self, arm: str, dataset: str, seed: int) -> str:
        """Label of the parts that finetune and measure an arm of this point on a dataset."""
        return f"{arm}-{self.name}-{dataset}-seed{seed}"


@dataclass(frozen=True, kw_only=True)
class ScalingDesign:
    """Everything that tells one size of the study from another."""

    mae: Run
    wsp: Run
    finetune: Run
    widths: tuple[int, ...]  # of the models, ascending
    head_width: int  # channels of a head
    shares: tuple[float, ...]  # of the images, ascending; the last is 1
    images: str
    other_images: str  # that MAE sees in the arm whose stage 1 is swapped
    transfer: tuple[str, ...]
    shots: tuple[int, ...] = (5,)
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not self.widths or any(width <= 0 or width % self.head_width for width in self.widths):
            raise ValueError(f"widths={self.widths} must be multiples of head_width={self.head_width}")
        if any(after <= before for before, after in pairwise(self.widths)):
            raise ValueError(f"widths={self.widths} must ascend")
        if not self.shares or any(after <= before for before, after in pairwise((0.0, *self.shares))):
            raise ValueError(f"shares={self.shares} must ascend from above 0")
        if self.shares[-1] != 1:
            raise ValueError(f"shares={self.shares} must end with 1, all images")

    @property
    def base_width(self) -> int:
        return self.widths[(len(self.widths) - 1) // 2]

    @property
    def largest(self) -> Point:
        """The point that is predicted before it is run."""
        return Point(width=self.widths[-1], share=1.0)

    def points(self, shares: tuple[float, ...]) -> list[Point]:
        """The grid with these shares, from the smallest point on."""
        return [Point(width=width, share=share) for width in self.widths for share in shares]

    def arms_at(self, point: Point) -> tuple[Arm, ...]:
        """The arms that are trained at a point, each after the one it starts from."""
        if point.share < 1:
            return GRID
        return (RANDOM, *GRID, *AT_BASE) if point.width == self.base_width else (RANDOM, *GRID)

    def arms_before(self, point: Point) -> tuple[Arm, ...]:
        """Those that are trained before the largest point is."""
        arms = self.arms_at(point)
        return arms if point != self.largest else tuple(arm for arm in arms if arm == RANDOM)

    def model(self, run: Run, width: int) -> ViTConfig:
        """The encoder of a recipe at a width."""
        return replace(encoder_of(run), width=width, heads=width // self.head_width)


def scaling_design_of(size: Size) -> ScalingDesign:
    design = _DESIGNS[size]()
    mae, wsp, finetune = (replace(run, threads=THREADS) for run in (design.mae, design.wsp, design.finetune))
    return replace(design, mae=mae, wsp=wsp, finetune=finetune)


def halvings(count: int) -> tuple[float, ...]:
    """So many shares, each twice the one before: ``(0.25, 0.5, 1.0)``."""
    return tuple(0.5**power for power in range(count - 1, -1, -1))


def _smoke() -> ScalingDesign:
    """Enough points for a law and its prediction; each run has a few steps."""
    mae, wsp, finetune = recipes.mae_smoke(), recipes.wsp_smoke(), recipes.finetune_smoke()
    return ScalingDesign(
        mae=_shortened(mae, 256),
        wsp=_shortened(wsp, 256),
        finetune=_shortened(finetune, 128),
        widths=(16, 32),
        head_width=16,
        shares=(0.25, 0.35, 0.5, 0.7, 0.85, 1.0),
        images="openmoji",
        other_images="tuxpaint",
        transfer=("digits",),
        seeds=(0,),
    )


def _tiny() -> ScalingDesign:
    mae, wsp, finetune = recipes.mae_smoke(), recipes.wsp_smoke(), recipes.finetune_smoke()
    return ScalingDesign(
        mae=_shortened(mae, 1_280),
        wsp=_shortened(wsp, 1_280),
        finetune=finetune,
        widths=(16, 32, 64),
        head_width=16,
        shares=halvings(6),
        images="openmoji",
        other_images="openclipart",
        transfer=design_of("tiny").transfer,
        seeds=(0,),
    )


def _small() -> ScalingDesign:
    """Widths a factor of two apart, so that parameters are four apart; batches of 64 for more steps per sample."""
    mae, wsp, finetune = recipes.mae_small(), recipes.wsp_small(), recipes.finetune_small()
    mae = replace(mae, optim=replace(mae.optim, base_lr=4e-3), budget=_budget(64_000))
    wsp = replace(wsp, optim=replace(wsp.optim, base_lr=2e-3), budget=_budget(32_000))
    return ScalingDesign(
        mae=_with_depth(mae, 4),
        wsp=_with_depth(wsp, 4),
        finetune=_with_depth(finetune, 4),
        widths=(48, 96, 192),
        head_width=24,
        shares=halvings(6),
        images="openclipart+openmoji+emoji-twitter",
        other_images="icons",
        transfer=("openclipart", "emoji-google", "digits"),
    )


def _budget(samples: int) -> Budget:
    return Budget(samples=samples, batch_size=64, microbatch=64, warmup=samples // 10)


def _shortened(run: Run, samples: int) -> Run:
    """So many samples in batches of 32, which a small share of a few hundred images fills."""
    return replace(run, budget=Budget(samples=samples, batch_size=32, microbatch=32, warmup=samples // 10))


def _with_depth(run: Run, depth: int) -> Run:
    return replace(run, objective=replace(run.objective, encoder=replace(encoder_of(run), depth=depth)))


_DESIGNS: dict[Size, Callable[[], ScalingDesign]] = {"smoke": _smoke, "tiny": _tiny, "small": _small}
