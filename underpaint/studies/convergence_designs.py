"""Designs of the study ``convergence`` at each size: budgets of MAE and of WSP, and the arms of their grid.

Both recipes are as long as one budget, their schedule is warm-up, stable, decay, and the warm-up is the same for every
multiple. The recipe of WSP is that of ``wsp`` alone in every arm (paper.md C16).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from underpaint import recipes
from underpaint.models.sizes import SIZES
from underpaint.run import Budget, Run
from underpaint.studies.designs import RANDOM, Arm, Size, design_of
from underpaint.studies.parts import THREADS
from underpaint.training.schedule import ScheduleConfig

WSD = ScheduleConfig(kind="wsd", cooldown=0.2)


@dataclass(frozen=True, kw_only=True)
class ConvergenceDesign:
    """Everything that tells one size of the study from another."""

    mae: Run  # as long as one budget
    wsp: Run  # as long as one budget
    finetune: Run
    images: str  # the collections that MAE and WSP learn from, unless the user names images
    transfer: tuple[str, ...]  # the collections whose transfer tasks the arms are measured on
    mae_budgets: tuple[float, ...] = (0.1, 0.25, 1.0, 2.0)
    wsp_budgets: tuple[float, ...] = (0.25, 1.0, 4.0)
    wsp_alone_budgets: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)  # denser: the scale that MAE is measured on
    is_finetuned: bool = False  # whether finetuning is among the tasks, which takes longer than all others
    shots: tuple[int, ...] = (5,)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name in ("mae_budgets", "wsp_budgets", "wsp_alone_budgets"):
            budgets = getattr(self, name)
            if not budgets or list(budgets) != sorted(set(budgets)) or budgets[0] <= 0:
                raise ValueError(f"{name}={budgets} must be positive and rise")
        if 1 not in self.mae_budgets or 1 not in self.wsp_budgets or len(self.wsp_alone_budgets) < 2:
            raise ValueError(
                f"mae_budgets={self.mae_budgets} and wsp_budgets={self.wsp_budgets} must hold 1, whose worth is asked, "
                f"and wsp_alone_budgets={self.wsp_alone_budgets} at least two lengths"
            )
        if not set(self.wsp_budgets) <= set(self.wsp_alone_budgets):
            raise ValueError(
                f"wsp_alone_budgets={self.wsp_alone_budgets} must hold wsp_budgets={self.wsp_budgets}, with which each "
                "is compared at equal steps"
            )


@dataclass(frozen=True, kw_only=True)
class End:
    """An arm by its place in the grid."""

    arm: Arm
    mae: float  # budgets
    wsp: float

    @property
    def is_asked(self) -> bool:
        """Whether its worth is the answer of the study."""
        return (self.mae, self.wsp) == (1, 1)


def ends_of(design: ConvergenceDesign) -> list[End]:
    """The untrained encoder, MAE, WSP alone, and WSP after each MAE."""
    ends = [End(arm=RANDOM, mae=0, wsp=0)]
    ends += [End(arm=_mae(budget), mae=budget, wsp=0) for budget in design.mae_budgets]
    ends += [End(arm=_wsp(0, budget), mae=0, wsp=budget) for budget in design.wsp_alone_budgets]
    return [
        *ends,
        *(End(arm=_wsp(mae, wsp), mae=mae, wsp=wsp) for mae in design.mae_budgets for wsp in design.wsp_budgets),
    ]


def arm_name(mae: float, wsp: float) -> str:
    """``mae0.1``, ``wsp4``, ``mae0.1_wsp4``."""
    stages = (("mae", mae), ("wsp", wsp))
    return "_".join(f"{stage}{budget:g}" for stage, budget in stages if budget) or RANDOM.name


def in_words(budget: float) -> str:
    """``1/10``, ``4``: a number of budgets."""
    return str(Fraction(budget).limit_denominator(100))


def _mae(budget: float) -> Arm:
    return Arm(
        name=arm_name(budget, 0),
        label=f"MAE × {in_words(budget)}",
        description="images, no tags",
        role="mae" if budget == 1 else "variant",
        stage="mae",
        share=budget,
        ladder=arm_name(budget, 1),
    )


def _wsp(mae: float, wsp: float) -> Arm:
    alone = mae == 0
    start = "" if alone else f"MAE × {in_words(mae)} then "
    return Arm(
        name=arm_name(mae, wsp),
        label=f"{start}WSP × {in_words(wsp)}",
        description="from scratch" if alone else "the same WSP, from the weights of that MAE",
        role="variant" if wsp != 1 or mae > 1 or 0 < mae < 1 else "wsp" if alone else "treatment",
        stage="wsp",
        start="" if alone else arm_name(mae, 0),
        share=wsp,
        ladder=arm_name(mae, 1),
    )


def budget_of(run: Run, share: float) -> Budget:
    """A multiple of the run's budget in whole batches, with the same warm-up."""
    batch = run.budget.batch_size
    return replace(run.budget, samples=max(1, round(share * run.budget.samples / batch)) * batch)


def decay_start(run: Run) -> int:
    """Samples after which the rate of a run falls, in whole batches: it leaves its trunk there."""
    batch, samples = run.budget.batch_size, run.budget.steps * run.budget.batch_size
    return int((1 - run.schedule.cooldown) * samples / batch + 1e-9) * batch


def convergence_design_of(size: Size) -> ConvergenceDesign:
    design = _DESIGNS[size]()
    mae, wsp = (replace(run, schedule=WSD, threads=THREADS) for run in (design.mae, design.wsp))
    return replace(design, mae=mae, wsp=wsp, finetune=replace(design.finetune, threads=THREADS))


def _smoke() -> ConvergenceDesign:
    """Fewer lengths than the larger sizes: what is there is run in the same way."""
    stages = design_of("smoke")
    return ConvergenceDesign(
        mae=_budget(stages.mae, samples=1_280, warmup=128),
        wsp=_budget(stages.wsp, samples=1_280, warmup=128),
        finetune=stages.finetune,
        images=stages.images,
        transfer=stages.transfer,
        mae_budgets=(0.25, 1.0),
        wsp_budgets=(0.25, 1.0),
        wsp_alone_budgets=(0.25, 1.0, 4.0),
    )


def _tiny() -> ConvergenceDesign:
    stages = design_of("tiny")
    return ConvergenceDesign(
        mae=_budget(recipes.mae_laptop(), samples=10_240, warmup=640),
        wsp=_budget(recipes.wsp_laptop(), samples=5_120, warmup=640),
        finetune=stages.finetune,
        images=stages.images,
        transfer=stages.transfer,
    )


def _small() -> ConvergenceDesign:
    """The images of ``stages`` at this size, all with their tags, and its smaller network: two cores take two hours.

    The longest MAE and WSP are those of the demo's pilot on these images (docs/results/demo.md). Measured on images of
    other collections alone, another vendor's emoji and digits.
    """
    stages, smaller = design_of("small"), SIZES["vit_laptop8"]
    mae, wsp, finetune = stages.mae, stages.wsp, design_of("tiny").finetune
    mae = replace(mae, objective=replace(mae.objective, encoder=smaller))
    wsp = replace(wsp, objective=replace(wsp.objective, encoder=replace(smaller, positions="sincos_trained")))
    return ConvergenceDesign(
        mae=_budget(mae, samples=99_840, warmup=4_992),
        wsp=_budget(wsp, samples=24_000, warmup=2_400),
        finetune=replace(finetune, cadence=replace(finetune.cadence, save=10_000_000)),
        images=stages.images,
        transfer=("emoji-google", "digits"),
        is_finetuned=True,
        seeds=(0, 1, 2),
    )


def _budget(run: Run, *, samples: int, warmup: int) -> Run:
    budget: Budget = replace(run.budget, samples=samples, warmup=warmup)
    cadence = replace(run.cadence, save=64_000, evaluate=10_000_000)
    return replace(run, budget=budget, cadence=cadence)


_DESIGNS: dict[Size, Callable[[], ConvergenceDesign]] = {"smoke": _smoke, "tiny": _tiny, "small": _small}
