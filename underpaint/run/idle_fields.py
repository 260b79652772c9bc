"""Fields of a run that nothing reads, given the others: refused as an override, and left out of the identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from underpaint import config
from underpaint.data.augment.options import Augment
from underpaint.data.captions.caption_data import CaptionData
from underpaint.data.dataset import ImageData
from underpaint.data.decode.image import EIGHT_BIT
from underpaint.data.shards.prepared_source import is_prepared_name
from underpaint.models.vit import ViTConfig
from underpaint.objectives.classify import LabelClassifierConfig
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.objectives.lit import LitConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.run.declare import HasEncoder, Run
from underpaint.run.starting_encoder import SHAPE, with_shape_of_start
from underpaint.training.optim import OptimConfig

LENGTHS = ("budget.epochs", "budget.samples", "budget.warmup")
Idle = dict[str, str]
"""The dotted name of each field that does nothing: why, and what to do instead."""


def override_run(run: Run, overrides: Sequence[str]) -> Run:
    """The run with fields set as on the command line.

    Raises:
        ValueError: for an override that cannot be applied, or that would change nothing but the record.
    """
    changed = with_shape_of_start(config.override(run, overrides))
    if changed.budget.epochs:
        _refuse_two_lengths(overrides)
    refuse_idle(overrides, changed, idle_fields(changed))
    return changed


def _refuse_two_lengths(overrides: Sequence[str]) -> None:
    """Raise ValueError where epochs are given beside values in samples."""
    given = {name: each for each in overrides if (name := each.partition("=")[0]) in LENGTHS}
    if "budget.epochs" in given and len(given) > 1:
        samples = next(each for name, each in given.items() if name != "budget.epochs")
        raise ValueError(
            f"{given['budget.epochs']} and {samples} exclude each other: epochs become samples when the data are "
            f"opened, and the warm-up keeps its share; leave one out"
        )


def refuse_idle(overrides: Sequence[str], changed: object, idle: Idle) -> None:
    """Raise ValueError for the first override of the configuration ``changed`` that does nothing."""
    for assignment in overrides:
        if reason := idle.get(config.name_of_today(changed, assignment.partition("=")[0])):
            raise ValueError(f"{assignment} does nothing: {reason}")


def idle_fields(run: Run) -> Idle:
    """The fields that change nothing about this run, whatever their value."""
    idle = _of_optimizer(run.optim)
    if isinstance(run.data, ImageData):
        idle |= _of_data(run.data)
    if isinstance(run.objective, HasEncoder):
        idle |= _of_encoder(run.objective.encoder)
    if isinstance(run.objective, (MAEConfig, LabelClassifierConfig)) and run.objective.frozen_encoder:
        idle |= _of_frozen_encoder(run.objective)
    if isinstance(run.objective, LitConfig):
        idle |= _of_lit(run.objective)
    if isinstance(run.objective, DetectConfig):
        idle |= _of_detector(run.objective)
    if isinstance(run.objective, LabelClassifierConfig):
        idle |= _of_start(run, run.objective)
    if isinstance(run.objective, ClassifyClipsConfig):
        idle |= _of_clips(run.objective)
    if not run.init_from:
        idle["reset_final_norm"] = "the run starts from scratch; set init_from=DIR with it"
    if run.schedule.kind != "wsd":
        idle["schedule.cooldown"] = "there is no cooldown; set schedule.kind=wsd with it"
    if run.schedule.kind != "steps":
        unstepped = "the rate has no steps; set schedule.kind=steps with it"
        idle |= dict.fromkeys(("schedule.drops", "schedule.drop_factor"), unstepped)
    return idle


def _of_data(data: ImageData) -> Idle:
    idle: Idle = {}
    repeated = data.resample == "sqrt"
    idle |= _of_augment(data.augment)
    if data.share == 1:
        idle["data.share_seed"] = "data.share=1 takes all images; set data.share with it"
    if data.targets != "tags":
        idle["data.labels_per_image"] = f"data.targets={data.targets} has no tags as targets; set data.targets=tags"
    if is_prepared_name(data.source):
        labels = f"{data.source} is a prepared set, which has its own"
        idle["data.vocabulary_size"] = f"{labels} labels; leave it out, or prepare the set with --vocabulary-size"
        idle["data.min_count"] = f"{labels} labels; leave it out, or prepare the set with --min-count"
        idle["data.resample_ratio"] = f"{labels} repeat factors; leave it out"
        idle["data.tag_rules"] = f"{labels} labels; leave it out, or give the rules to `underpaint prepare`"
        return idle
    if not _may_be_elsewhere(data.source):
        prepared = f"{data.source} is not a prepared set; leave it out, or make one with `underpaint prepare`"
        idle |= dict.fromkeys(("data.lanes.count", "data.lanes.window", "data.cache_gib"), prepared)
    if data.targets != "tags" and not repeated:
        unused = f"data.targets={data.targets} and data.resample=none use no tags; set one of them with it"
        idle |= dict.fromkeys(("data.vocabulary_size", "data.min_count", "data.tag_rules"), unused)
        if isinstance(data, CaptionData):  # whose templates take tags
            del idle["data.tag_rules"]
    if "data.tag_rules" not in idle and "/" not in data.source and not data.source.startswith("."):
        idle["data.tag_rules"] = f"{data.source} is a collection, whose tags are labels already; leave it out"
    if not repeated:
        idle["data.resample_ratio"] = "no image is repeated; set data.resample=sqrt with it"
    return idle


def _of_start(run: Run, objective: LabelClassifierConfig) -> Idle:
    if not run.init_from:
        return {"objective.shape_from_start": "the run starts from scratch; set init_from=DIR with it"}
    idle = {"objective.init": "init_from brings the weights; leave one of them out"}
    if objective.shape_from_start:
        brought = "init_from brings it; leave it out, or set objective.shape_from_start=false with it"
        idle |= dict.fromkeys((f"objective.encoder.{name}" for name in SHAPE), brought)
    return idle


def _of_augment(augment: Augment) -> Idle:
    idle: Idle = {}
    if not augment.mixes:
        unmixed = "nothing is mixed; set data.augment.mixup or data.augment.cutmix with it"
        idle |= dict.fromkeys(("data.augment.mix_probability", "data.augment.mix_group"), unmixed)
    if not (augment.mixup and augment.cutmix):
        idle["data.augment.switch_probability"] = "mixup and CutMix are not both used; set both with it"
    return idle


def _may_be_elsewhere(source: str) -> bool:
    """Whether it may be a prepared set that this machine does not see, when a run for another one is planned."""
    return ("/" in source or source.startswith(".")) and not Path(source).expanduser().exists()


def _of_optimizer(optim: OptimConfig) -> Idle:
    readers = {"betas": ("adamw",), "momentum": ("lars", "sgd"), "trust": ("lars",), "nesterov": ("sgd",)}
    idle = {
        f"optim.{field}": f"optim.name={optim.name} has none; it belongs to {' and '.join(names)}"
        for field, names in readers.items()
        if optim.name not in names
    }
    if not optim.weight_decay:
        unread = "nothing is decayed; set optim.weight_decay with it"
        idle |= dict.fromkeys(("optim.decay_tokens", "optim.decay_vectors"), unread)
    return idle


def _of_encoder(encoder: ViTConfig) -> Idle:
    idle: Idle = {}
    if encoder.view == "stretch":
        idle["objective.encoder.crop_share"] = "nothing is cut off; set objective.encoder.view=crop with it"
    if encoder.value_range != EIGHT_BIT:
        idle["data.decoding"] = (
            f"objective.encoder.value_range={encoder.value_range} is not that of 8 bits, which alone are decoded small"
        )
    return idle


def _of_detector(objective: DetectConfig) -> Idle:
    whole = "a detector sees whole images, fitted into its size bilinearly; leave it out"
    names = ("view", "crop_share", "interpolation")
    idle = dict.fromkeys((f"objective.encoder.{name}" for name in names), whole)
    idle["objective.encoder.final_norm"] = "a detector's encoder has none; leave it out"
    idle["objective.encoder.positions"] = "a detector's positions are trained; leave it out"
    idle["reset_final_norm"] = "a detector's encoder has no final norm; leave it out"
    return idle


def _of_clips(objective: ClassifyClipsConfig) -> Idle:
    whole = "frames are resized to cover the size, and crops lie side by side; leave it out"
    idle = dict.fromkeys((f"objective.encoder.{name}" for name in ("view", "crop_share", "interpolation")), whole)
    idle["objective.encoder.value_range"] = "frames of videos have 8 bits; leave it out"
    if objective.clip.sampling == "uniform":
        idle["objective.clip.stride"] = "the parts of the video decide; set objective.clip.sampling=dense with it"
    return idle


def _of_lit(objective: LitConfig) -> Idle:
    locked = "cls token and positions of the image tower are locked; leave it out"
    idle = {"optim.decay_tokens": locked}
    if not objective.unlocked_blocks:
        idle["optim.layer_decay"] = "the image tower is locked; set objective.unlocked_blocks with it"
    if objective.cached_features:
        cached = "the image features are cached, without crops; leave it out"
        idle |= dict.fromkeys(
            ("data.scale", "data.views", "data.decoding", "data.workers", "data.augment.rand", "data.augment.erase"),
            cached,
        )
        idle["objective.unlocked_blocks"] = "the image features are cached; set objective.cached_features=false with it"
    if objective.loss == "softmax":
        idle["objective.logit_bias"] = "the softmax loss has none; set objective.loss=sigmoid with it"
    return idle


def _of_frozen_encoder(objective: MAEConfig | LabelClassifierConfig) -> Idle:
    frozen = "the encoder is frozen; set objective.frozen_encoder=false, or leave it out"
    idle = {"optim.layer_decay": frozen}
    if isinstance(objective, LabelClassifierConfig):
        idle["optim.decay_tokens"] = frozen
    return idle
