"""Designs of the study ``stages`` at each size: recipes, images, transfer tasks, seeds and arms.

The arms share one architecture and, within a seed, the same initial weights. The recipe of WSP is tuned on ``wsp``
alone and reused unchanged for WSP in every arm (paper.md C16); arms with ``overrides`` say so in their name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from underpaint import recipes
from underpaint.config import Overrides
from underpaint.data.dataset import ImageData
from underpaint.results.study import ArmEntry, ContrastEntry, Equal, Role
from underpaint.run import Budget, Cadence, Run
from underpaint.run.declare import HasEncoder
from underpaint.run.precision import MeasuredPrecision
from underpaint.studies.parts import THREADS

Size = Literal["smoke", "tiny", "small", "photos"]


class StudyOptions(TypedDict, total=False):
    """Options of a study."""

    size: Size  # "tiny" where it is not given
    images: str  # a folder, or any other name that ``open_source`` takes
    tags: str  # the file of their tags
    labels: str  # the file of their classes, or "folders" for class folders
    seeds: Sequence[int]  # else those of the size
    overrides: Overrides  # of its recipes, such as "wsp.budget.samples=50_000"
    baselines: Sequence[str]  # folders of encoders from elsewhere, to be measured beside the arms
    encoders: Sequence[str]  # of the study ``transfer``: folders of the runs or imports that it measures
    datasets: Sequence[str]  # of the study ``transfer``: what it measures them on
    largest: bool  # of the study ``scaling``: run the point that was predicted
    measured: Mapping[str, float]  # values that the first start in the study's folder measured (``Study.measured``)
    precision: MeasuredPrecision | None  # of recipes that ask for the fastest: that of the first start


def options_of(study: str, asked: StudyOptions) -> dict[str, object]:
    """The options that a study has, without those of other studies.

    Raises:
        ValueError: where one of those is given, or a size that the study lacks.
    """
    training = ("images", "tags", "labels", "baselines")
    refused = {
        "largest": "--largest runs the predicted point of the study `scaling`",
        "encoders": "--from names the encoders that the study `transfer` measures",
        "datasets": "several folders of --data are datasets of the study `transfer`",
        **dict.fromkeys(training, "--images, --tags, --labels and --baseline belong to studies that train encoders"),
    }
    allowed = {"scaling": ("largest", *training), "transfer": ("encoders", "datasets")}.get(study, training)
    for name, reason in refused.items():
        if name not in allowed and asked.get(name):
            raise ValueError(f"{reason}; `{study}` has none")
    if asked.get("size") == "photos" and study != "stages":
        raise ValueError(f"--size photos is a size of the study `stages`; `{study}` has smoke, tiny and small")
    left_out = {"precision", *refused} - set(allowed)
    return {name: value for name, value in asked.items() if name not in left_out}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to an encoder."""

    name: str
    label: str  # in a sentence
    description: str  # in a legend
    role: Role
    stage: Literal["none", "mae", "wsp", "baseline"]  # "none" keeps the initial weights, "baseline" those of elsewhere
    start: str = ""  # the arm whose encoder it starts from; "" is the initial weights of the seed
    lengthened: Literal["", "compute", "time"] = ""  # to what "mae" and then its own stage cost in FLOPs or seconds
    share: float = 1.0  # of the samples, and of the warm-up, of its recipe
    rate: float = 1.0  # in the learning rate of its recipe
    overrides: tuple[str, ...] = ()  # fields of the recipe that this arm changes, as on the command line
    ladder: str = ""  # the arm that differs from it in the length of WSP alone


RANDOM = Arm(
    name="random",
    label="the untrained encoder",
    description="its initial weights, for comparison",
    role="untrained",
    stage="none",
    ladder="wsp",
)
MAE = Arm(
    name="mae",
    label="MAE alone",
    description="images, no tags",
    role="mae",
    stage="mae",
    ladder="mae_wsp",
)
WSP = Arm(name="wsp", label="WSP alone", description="from scratch", role="wsp", stage="wsp", ladder="wsp")
MAE_WSP = Arm(
    name="mae_wsp",
    label="MAE then WSP",
    description="the same WSP, from the weights of MAE",
    role="treatment",
    stage="wsp",
    start="mae",
    ladder="mae_wsp",
)
EQUAL_COMPUTE = Arm(
    name="wsp_equal_compute",
    label="WSP at equal compute",
    description="WSP alone, lengthened to the training FLOPs of MAE then WSP",
    role="equal_compute",
    stage="wsp",
    lengthened="compute",
    ladder="wsp",
)
EQUAL_TIME = Arm(
    name="wsp_equal_time",
    label="WSP at equal wall time",
    description="WSP alone, lengthened to the expected wall time of MAE then WSP",
    role="equal_time",
    stage="wsp",
    lengthened="time",
    ladder="wsp",
)
HALF = Arm(
    name="mae_wsp_half",
    label="MAE then half of WSP",
    description="half of that WSP: does it get there sooner?",
    role="variant",
    stage="wsp",
    start="mae",
    share=0.5,
    ladder="mae_wsp",
)
TENTH = Arm(
    name="mae_tenth",
    label="a tenth of MAE",
    description="images, no tags, for a tenth of the samples",
    role="variant",
    stage="mae",
    share=0.1,
)
TENTH_WSP = Arm(
    name="mae_tenth_wsp",
    label="a tenth of MAE then WSP",
    description="the same WSP after it: is a little enough?",
    role="variant",
    stage="wsp",
    start="mae_tenth",
)
GENTLE = Arm(
    name="mae_wsp_low_rate",
    label="MAE then WSP at a low rate",
    description="a quarter of the learning rate, to forget less",
    role="variant",
    stage="wsp",
    start="mae",
    rate=0.25,
)
LAYERWISE = Arm(
    name="mae_wsp_layer_decay",
    label="MAE then WSP with layer decay",
    description="smaller rates in lower layers, to forget less",
    role="variant",
    stage="wsp",
    start="mae",
    overrides=("optim.layer_decay=0.65",),
)


def imported_arm(name: str) -> Arm:
    """A baseline as an arm."""
    description = "an encoder from elsewhere, not trained here"
    return Arm(name=name, label=name, description=description, role="baseline", stage="baseline")


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A difference that is reported: the score of ``tested`` minus that of ``reference``, and what both have equal."""

    tested: str
    reference: str
    equal: Equal = "nothing"

    @property
    def name(self) -> str:
        return f"{self.tested} - {self.reference}"

    def entry(self) -> ContrastEntry:
        """Entry for ``contrasts`` of ``results.json``."""
        return {"contrast": self.name, "first": self.tested, "second": self.reference, "equal": self.equal}


def arm_entries(arms: Sequence[Arm]) -> list[ArmEntry]:
    """Meaning of the arms, for ``arms`` of ``results.json``."""
    by_name = {arm.name: arm for arm in arms}

    def stages(arm: Arm) -> list[str]:
        before = stages(by_name[arm.start]) if arm.start else []
        return before if arm.stage in ("none", "baseline") else [*before, arm.stage]

    return [
        {
            "arm": arm.name,
            "label": arm.label,
            "description": arm.description,
            "role": arm.role,
            "stages": stages(arm),
            "ladder": arm.ladder,
        }
        for arm in arms
    ]


@dataclass(frozen=True, kw_only=True)
class Design:
    """Everything that tells one size of the study from another."""

    mae: Run
    wsp: Run
    finetune: Run
    images: str  # the collections that MAE and WSP learn from, unless the user names images
    transfer: tuple[str, ...]  # the collections whose transfer tasks the arms are measured on
    arms: tuple[Arm, ...] = (RANDOM, MAE, WSP, MAE_WSP, EQUAL_COMPUTE)
    shots: tuple[int, ...] = (5,)
    seeds: tuple[int, ...] = (0,)
    mae_seconds: float = 0.0
    """Wall time of one sample of MAE in samples of WSP, for the arm of equal time; 0 measures it on this machine."""
    fewest_images: int = 0
    """Fewest images to train on; with fewer the study is refused, and a smaller size named."""


BESIDE = "digits"
"""An out-of-domain task for a user's own images, beside their own classes."""


def design_of(size: Size, *, own_images: bool = False) -> Design:
    """The design of a size; on a user's own images WSP learns from all the tags that they have.

    Raises:
        ValueError: for a size that needs images of one's own, without them.
    """
    design = _DESIGNS[size]()
    if not (design.images or own_images):
        raise ValueError(
            f"--size {size} is for photographs of your own, and the built-in collections are drawings of fewer pixels; "
            f"give --images DIR, or --data SET of `underpaint prepare`"
        )
    mae, wsp, finetune = (replace(run, threads=THREADS) for run in (design.mae, design.wsp, design.finetune))
    if own_images:
        assert isinstance(wsp.data, ImageData)
        wsp = replace(wsp, data=replace(wsp.data, share=1.0))
    return replace(design, mae=mae, wsp=wsp, finetune=finetune)


def require_images(design: Design, count: int, *, name: str) -> None:
    """Raises ValueError if the images to train on are fewer than the design needs, with the size to take instead."""
    if count >= design.fewest_images:
        return
    fitting = [size for size in ("tiny", "smoke") if _DESIGNS[size]().mae.budget.batch_size <= count]
    raise ValueError(
        f"'{name}' has {count:,} images to train on, and this size needs {design.fewest_images:,}: fewer give no "
        f"scores that tell its arms apart; take --size {(*fitting, 'smoke')[0]}, or set fewest_images={count} with "
        f"smaller budgets"
    )


def _smoke() -> Design:
    return Design(
        mae=recipes.mae_smoke(),
        wsp=recipes.wsp_smoke(),
        finetune=recipes.finetune_smoke(),
        images="openmoji",
        transfer=("openmoji", "digits"),
    )


def _tiny() -> Design:
    """The demo: what two cores train in ten minutes where few images have tags, as in most collections.

    Chosen on seed 100, promised, and then run on other seeds (docs/results/demo.md). Needs no download beyond the
    packages of the extra ``demo``. Layer-wise rates are the same in every arm of WSP.
    """
    mae, wsp = recipes.mae_laptop(), recipes.wsp_laptop()
    return Design(
        mae=replace(
            mae,
            budget=Budget(samples=147_200, batch_size=128, microbatch=128, warmup=14_720),
            optim=replace(mae.optim, base_lr=2e-3),
            cadence=replace(mae.cadence, evaluate=73_600),
        ),
        wsp=replace(
            wsp,
            data=replace(wsp.data, share=0.1),
            budget=Budget(samples=19_200, batch_size=128, microbatch=128, warmup=1_920),
            optim=replace(wsp.optim, base_lr=1e-3, layer_decay=0.65),
            cadence=replace(wsp.cadence, evaluate=9_600),
        ),
        finetune=recipes.finetune_laptop(),
        images="openmoji",
        transfer=("openmoji", "digits"),
        arms=(RANDOM, MAE, WSP, MAE_WSP, EQUAL_COMPUTE, EQUAL_TIME),
    )


def _small() -> Design:
    """Several collections; drawings, photographs, another vendor's emoji and digits as the transfer tasks."""
    return Design(
        mae=recipes.mae_small(),
        wsp=recipes.wsp_small(),
        finetune=recipes.finetune_small(),
        images="openclipart+openmoji+emoji-twitter",
        transfer=("openclipart", "emoji-google", "tuxpaint", "digits"),
        arms=(RANDOM, MAE, WSP, MAE_WSP, EQUAL_COMPUTE, EQUAL_TIME, HALF, TENTH, TENTH_WSP, GENTLE, LAYERWISE),
        shots=(1, 5, 10),
        seeds=(0, 1, 2, 3, 4),
    )


def _photos() -> Design:
    """Photographs of one's own at 96 pixels: a night on two cores, with three seeds, from which intervals follow.

    The network and its rates are those of ``_small``, in patches of 8 pixels, so a photograph has 144 of them. JPEGs
    are decoded small, since decoding a camera's files in full takes longer than the training.
    """
    mae, wsp, finetune = (
        _on_photos(run) for run in (recipes.mae_small(), recipes.wsp_small(), recipes.finetune_small())
    )
    return Design(
        mae=replace(
            mae,
            budget=Budget(samples=128_000, batch_size=128, microbatch=64, warmup=12_800),
            cadence=Cadence(log=6_400, save=25_600, keep=10_000_000, evaluate=32_000),
        ),
        wsp=replace(
            wsp,
            budget=Budget(samples=64_000, batch_size=128, microbatch=64, warmup=6_400),
            cadence=Cadence(log=3_200, save=12_800, keep=10_000_000, evaluate=16_000),
        ),
        finetune=replace(finetune, budget=Budget(samples=8_000, batch_size=32, microbatch=32, warmup=800)),
        images="",
        transfer=(),
        arms=(RANDOM, MAE, WSP, MAE_WSP, EQUAL_COMPUTE, EQUAL_TIME),
        shots=(1, 5, 10),
        seeds=(0, 1, 2),
        fewest_images=1_000,
    )


def _on_photos(run: Run) -> Run:
    """A recipe for drawings on photographs of 96 pixels."""
    assert isinstance(run.data, ImageData)
    assert isinstance(run.objective, HasEncoder)
    encoder = replace(run.objective.encoder, size=(96, 96))
    objective = replace(run.objective, encoder=encoder)
    return replace(run, objective=objective, data=replace(run.data, decoding="scaled"))


_DESIGNS: dict[Size, Callable[[], Design]] = {"smoke": _smoke, "tiny": _tiny, "small": _small, "photos": _photos}
