"""Every field of every recipe: changing it changes the run's identity and what the run does, or it is refused, or it is
operational.

Identity is asked of all recipes as they are. What a run does is asked by training it, shrunk to a second: log, weights,
and the evaluation view of an image are compared with those of the unchanged run, and a refused field must change none.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.detection_examples import make_objects
from support.other_values import alternatives, fields_of, make_odd_images, shrunk
from support.prepared_example import prepare_example
from support.small_runs import log_lines, tensors
from support.video_examples import make_videos
from underpaint import config, recipes, verbs
from underpaint.data.loader import read_files
from underpaint.data.quarantine import TooManyBadRecords
from underpaint.objectives.classify_clips import ClassifyClipsConfig
from underpaint.objectives.detect import DetectConfig
from underpaint.objectives.lit import LitConfig
from underpaint.objectives.mae import MAEConfig
from underpaint.plan.estimate import make_plan
from underpaint.run import Run, encoder_of, execute, record
from underpaint.run.idle_fields import idle_fields, override_run
from underpaint.training.loop import NonFiniteLoss

OPERATIONAL = {
    *(f"budget.{name}" for name in ("microbatch",)),
    *(f"cadence.{name}" for name in ("log", "save", "keep", "save_at", "evaluate", "asynchronous")),
    *(f"data.{name}" for name in ("source", "tags", "labels", "exclude", "workers", "cache_gib")),
    *("evals", "init_from", "branch_from", "spike_factor", "log_to", "threads", "device"),
    *(f"parallel.{name}" for name in ("layout", "node", "checkpoint_activations", "recompute_pointwise", "compile")),
    *(f"parallel.{name}" for name in ("hang_seconds", "slow_factor")),
}
"""Fields that may change when a run goes on. What lies at a path (source, tags, labels, exclude, init_from) may not:
its hash is identity."""


OF_OBJECTS = {
    *("data.annotations", "data.images", "data.heldout_annotations", "data.heldout_images"),
}
"""Paths of annotated images."""
OF_VIDEOS = {
    *("data.annotations", "data.videos", "data.heldout_annotations", "data.heldout_videos"),
}
"""Paths of lists of videos."""
MIXING = ("data.augment.mixup", "data.augment.cutmix")
"""They are refused without labels, which texts take the place of."""


def identity(run: Run) -> dict[str, Any]:
    return record.identity(run, data="", init_from="")


LIKE = ("finetune_in1k_vit_b16", "finetune_inat18_vit_l16_512")
"""The other recipes of published finetuning differ from one of these in numbers alone."""
NAMES = [
    name for name in map(recipes.published_name, recipes.__all__) if "_in1k_" not in name and "_inat18_" not in name
]


@pytest.mark.parametrize("name", [*NAMES, *LIKE])
def test_every_field_of_every_recipe_is_identity_or_refused_or_operational(
    name: str, images: Path, objects: Path, videos: Path
) -> None:
    folder = {"detect": objects, "video": videos}.get(name.partition("_")[0], images)
    run = shrunk(recipes.find_recipe(name)(), folder)
    operational = {field for field, _, is_operational in fields_of(run) if is_operational}
    of_texts = {"data.captions", "objective.text_from"} if isinstance(run.objective, LitConfig) else set[str]()
    if isinstance(run.objective, (DetectConfig, ClassifyClipsConfig)):
        of_images = {field for field in OPERATIONAL if field.startswith("data.")} - {"data.workers"}
        of_lists = OF_OBJECTS if isinstance(run.objective, DetectConfig) else OF_VIDEOS
        assert operational == OPERATIONAL - of_images | of_lists
    else:
        assert operational == OPERATIONAL | of_texts
    for field, kind, is_operational in fields_of(run):
        one_value = {"objective.stage"} if isinstance(run.objective, (MAEConfig, LitConfig)) else set[str]()
        one_value |= {"objective.stage"} if isinstance(run.objective, DetectConfig) else set()
        one_value |= {"data.targets", *MIXING} if isinstance(run.objective, LitConfig) else set()
        if is_operational or field in one_value:
            continue
        for overrides in alternatives(run, field, kind):
            changed = config.override(run, overrides)
            if field in idle_fields(changed):
                with pytest.raises(ValueError, match=f"{overrides[0].partition('=')[0]}=.* does nothing: "):
                    override_run(run, overrides)
                assert identity(changed) == identity(run), field
            else:
                assert identity(override_run(run, overrides)) != identity(run), field


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_odd_images(tmp_path_factory.mktemp("fields") / "images")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("fields") / "objects").parent


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("fields") / "videos", count=20)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields") / "set"
    prepare_example(folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did."""

    log: list[dict[str, Any]]
    result: dict[str, Any]
    weights: dict[str, torch.Tensor]
    view: torch.Tensor

    def equals(self, other: Outcome) -> bool:
        same = self.weights.keys() == other.weights.keys() and all(
            torch.equal(value, other.weights[name]) for name, value in self.weights.items()
        )
        return same and self.log == other.log and self.result == other.result and torch.equal(self.view, other.view)


def outcome(run: Run, folder: Path, image: Path | None) -> Outcome | str:
    """What the run does, or the limit that it runs into."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        result = execute(run, folder)
    except (TooManyBadRecords, NonFiniteLoss) as error:
        return str(error)
    kept = ("name", "stage", "samples", "train_flops", "skipped_windows", "bad_records")
    return Outcome(
        log=log_lines(folder),
        result={name: result.get(name) for name in kept},
        weights=tensors(folder),
        view=read_files([image], format=encoder_of(run).image_input)[0] if image else torch.zeros(0),
    )


def differs(one: Outcome | str, two: Outcome | str) -> bool:
    if isinstance(one, str) or isinstance(two, str):
        return one != two
    return not one.equals(two)


def walk(run: Run, fields: Sequence[str], folder: Path, image: Path | None) -> tuple[set[str], set[str]]:
    """Those of the fields that act, and those that are refused and do nothing; operational ones are neither."""
    acting, idle = set[str](), set[str]()
    before = outcome(run, folder / "before", image)
    for name, kind, is_operational in fields_of(run):
        if name not in fields or is_operational:
            continue
        changed = [config.override(run, overrides) for overrides in alternatives(run, name, kind)]
        assert changed, name
        outcomes = (outcome(each, folder / "after", image) for each in changed)
        if all(name in idle_fields(each) for each in changed):
            assert not any(differs(before, after) for after in outcomes), f"{name} is refused and does something"
            idle.add(name)
        else:
            assert any(differs(before, after) for after in outcomes), f"{name} does nothing and is not refused"
            acting.add(name)
    return acting, idle


NO_TRAINED_LAYERS = {"optim.layer_decay", "optim.decay_tokens"}
TAGS = {"data.vocabulary_size", "data.min_count", "data.resample_ratio", "data.tag_rules"}
TAGS_AS_TARGETS = {"data.labels_per_image"}
SHAPE = {"objective.shape_from_start"}
"""Idle in a run from scratch."""
NOT_ADAMW, NOT_LARS = {"optim.betas", "optim.nesterov"}, {"optim.momentum", "optim.trust", "optim.nesterov"}
ALWAYS = {
    *("data.lanes.count", "data.lanes.window"),  # a folder
    "data.share_seed",  # all images
    *(f"data.augment.{name}" for name in ("mix_probability", "switch_probability", "mix_group")),  # nothing is mixed
    "objective.encoder.crop_share",  # stretched
    "reset_final_norm",  # from scratch
    *("schedule.cooldown", "schedule.drops", "schedule.drop_factor"),  # a cosine
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "idle"),
    [
        ("mae_vit_b16", NOT_LARS | TAGS | TAGS_AS_TARGETS),
        ("wsp_vit_b16", NOT_LARS | SHAPE),
        ("wsp_laptop", NOT_LARS | SHAPE | {"data.resample_ratio"}),
        ("finetune_laptop", NOT_LARS | SHAPE | TAGS | TAGS_AS_TARGETS),
        (
            "linear_vit_b16",
            NOT_ADAMW | SHAPE | TAGS | TAGS_AS_TARGETS | NO_TRAINED_LAYERS | {"optim.decay_vectors"},
        ),
        (
            "lit_laptop",
            NOT_LARS | (TAGS - {"data.tag_rules"}) | TAGS_AS_TARGETS | NO_TRAINED_LAYERS | {"objective.logit_bias"},
        ),
    ],
)
def test_every_field_acts_or_is_refused(name: str, idle: set[str], images: Path, tmp_path: Path) -> None:
    """One recipe of each kind: what differs between those of a kind are numbers."""
    run = shrunk(recipes.find_recipe(name)(), images)
    everything = [field for field, _, _ in fields_of(run) if field not in ("max_skipped", "objective.stage")]
    if isinstance(run.objective, LitConfig):  # a single value, and what needs a start (test_lit_run.py)
        unused = {"data.targets", "objective.cached_features", "objective.locked_text", *MIXING}
        everything = [field for field in everything if field not in unused]
    acting, refused = walk(run, everything, tmp_path, images / "000.jpg")
    assert refused == idle | ALWAYS
    assert acting | refused | OPERATIONAL | {"data.captions", "objective.text_from"} >= set(everything)


@pytest.mark.slow
def test_every_field_of_a_detector_acts_or_is_refused(objects: Path, tmp_path: Path) -> None:
    """The numbers of evaluation alone are found in the detections, and not here."""
    run = shrunk(recipes.detect_laptop(), objects)
    evaluation = {f"objective.detector.{name}" for name in ("score_threshold", "suppression", "detections")}
    idle = {"reset_final_norm", "objective.encoder.positions", "objective.encoder.final_norm"}
    its_own = [
        field
        for field, _, operational in fields_of(run)
        if field.startswith(("objective.detector.", "objective.drop_path", "objective.objects", "data."))
        and field not in {"data.max_bad", *evaluation}
        and not operational
    ]
    assert walk(run, [*its_own, *idle], tmp_path, objects / "000.png") == (set(its_own), idle)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["dense", "uniform"])
def test_every_field_of_videos_acts_or_is_refused(videos: Path, sampling: str, tmp_path: Path) -> None:
    """Those that images have too are seen above."""
    run = shrunk(recipes.video_laptop(), videos)
    assert isinstance(run.objective, ClassifyClipsConfig)
    run = config.override(run, [f"objective.clip.sampling={sampling}", "data.flip=true"])
    idle = {f"objective.encoder.{name}" for name in ("view", "crop_share", "interpolation")}
    acting = {f"objective.clip.{name}" for name in ("frames", "tubelet", "sampling")}
    acting |= {"objective.dropout", "data.scale", "data.flip", "data.views", "data.augment.rand", "data.augment.mixup"}
    (acting if sampling == "dense" else idle).add("objective.clip.stride")
    assert walk(run, [*acting, *idle], tmp_path, None) == (acting, idle)


@pytest.mark.parametrize(
    ("name", "context", "acting", "idle"),
    [
        ("wsp_smoke", ["schedule.kind=wsd"], {"schedule.cooldown"}, set()),
        (
            "wsp_smoke",
            ["schedule.kind=steps", "schedule.drops=0.6"],
            {"schedule.drops", "schedule.drop_factor"},
            {"schedule.cooldown"},
        ),
        ("wsp_smoke", ["optim.name=sgd"], {"optim.momentum", "optim.nesterov"}, {"optim.betas", "optim.trust"}),
        ("wsp_smoke", ["optim.weight_decay=0"], set(), {"optim.decay_tokens", "optim.decay_vectors"}),
        ("wsp_smoke", ["objective.encoder.view=crop"], {"objective.encoder.crop_share"}, set()),
        ("wsp_smoke", ["objective.encoder.value_range=0,128"], set(), {"data.decoding"}),
        ("wsp_smoke", ["optim.base_lr=1e30", "optim.clip=inf"], {"max_skipped"}, set()),
        ("mae_smoke", ["data.resample=sqrt"], TAGS, set()),
        ("mae_smoke", ["data.share=0.6"], {"data.share_seed"}, set()),
        ("mae_smoke", ["objective.frozen_encoder=true"], {"optim.decay_tokens"}, {"optim.layer_decay"}),
        pytest.param(
            "finetune_smoke",
            ["data.augment.mixup=0.8", "data.augment.cutmix=1"],
            {f"data.augment.{name}" for name in ("mix_probability", "switch_probability", "mix_group")},
            set(),
        ),
        pytest.param(
            "finetune_smoke",
            ["data.augment.cutmix=1"],
            {"data.augment.mix_probability"},
            {"data.augment.switch_probability"},
        ),
    ],
)
def test_what_no_recipe_reads_acts_where_it_is_read(
    name: str, context: list[str], acting: set[str], idle: set[str], images: Path, tmp_path: Path
) -> None:
    run = override_run(shrunk(recipes.find_recipe(name)(), images), context)
    assert walk(run, [*acting, *idle], tmp_path, images / "000.jpg") == (acting, idle)


def test_fields_of_a_run_that_starts_from_another(images: Path, tmp_path: Path) -> None:
    mae, wsp = (shrunk(recipes.find_recipe(name)(), images) for name in ("mae_smoke", "wsp_smoke"))
    execute(replace(mae, optim=replace(mae.optim, base_lr=1.0)), tmp_path / "mae")
    started = replace(wsp, init_from=str(tmp_path / "mae"))
    fields = ["objective.init", "reset_final_norm"]
    assert walk(started, fields, tmp_path, images / "000.jpg") == ({"reset_final_norm"}, {"objective.init"})


@pytest.mark.slow
def test_fields_of_a_run_on_a_prepared_set(prepared: Path, images: Path, tmp_path: Path) -> None:
    run = shrunk(recipes.wsp_vit_b16(), prepared)
    fields = [field for field, _, _ in fields_of(run) if field.startswith("data.") and field != "data.decoding"]
    acting, idle = walk(
        run,
        sorted({*fields} - {"data.split", "data.targets", "data.max_bad", "data.tag_rules", *MIXING}),
        tmp_path,
        images / "000.jpg",
    )
    unmixed = {f"data.augment.{name}" for name in ("mix_probability", "switch_probability", "mix_group")}
    assert idle == TAGS - {"data.tag_rules"} | {"data.share_seed"} | unmixed, "tag_rules is refused on opening, too"
    assert acting >= {"data.lanes.count", "data.lanes.window", "data.resample", "data.share", "data.views"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.vocabulary_size=5", r"SET is a prepared set, which has its own labels; .* --vocabulary-size"),
        ("data.min_count=2", r"SET is a prepared set, which has its own labels; .* --min-count"),
        ("data.tag_rules=words", r"SET is a prepared set, which has its own labels; .* `underpaint prepare`"),
        ("data.min_tag_count=2", r"SET is a prepared set, which has its own labels; .* --min-count"),  # its old name
        ("data.resample_ratio=3", r"SET is a prepared set, which has its own repeat factors; leave it out"),
        ("data.lanes.count=2", r"IMAGES is not a prepared set; leave it out, or make one with `underpaint prepare`"),
        ("data.cache_gib=2", r"IMAGES is not a prepared set; leave it out"),
        ("optim.trust=2", r"optim.name=adamw has none; it belongs to lars"),
        ("schedule.cooldown=0.1", r"there is no cooldown; set schedule.kind=wsd with it"),
        ("reset_final_norm=true", r"the run starts from scratch; set init_from=DIR with it"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(override: str, message: str, prepared: Path, images: Path) -> None:
    source = prepared if "SET" in message else images
    pattern = message.replace("SET", re.escape(str(prepared))).replace("IMAGES", re.escape(str(images)))
    with pytest.raises(ValueError, match=f"^{re.escape(override)} does nothing: {pattern}"):
        verbs.plan_run("wsp_smoke", [f"data={source}", override])
    with pytest.raises(ValueError, match="does nothing"):
        make_plan("wsp_smoke", [f"data={source}", override])


def test_a_set_that_only_the_cluster_sees_can_be_planned_for() -> None:
    verbs.plan_run("wsp_vit_b16", ["data=/not/here/set", "data.lanes.count=64", "data.cache_gib=100"])


def test_a_value_that_did_nothing_when_a_run_began_keeps_nobody_from_going_on(images: Path, tmp_path: Path) -> None:
    """Runs of older releases have such fields in their identity."""
    run = shrunk(recipes.wsp_smoke(), images)
    execute(run, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    written = json.loads(path.read_text())
    assert "resample_ratio" in written["run"]["data"]
    assert "resample_ratio" not in written["identity"]["run"]["data"]
    written["identity"]["run"]["data"]["resample_ratio"] = 1.5
    path.write_text(json.dumps(written))
    done = execute(run, tmp_path / "run")
    assert done["steps"] == run.budget.steps
