"""One step of `finetune_in1k_vit_b16` against MAE's published step, written again from its description.

The network is timm's (with the global pool and ``fc_norm`` of MAE's models_vit.py); the layer-decay groups, the loss
and the optimizer's call are written here from util/lr_decay.py and engine_finetune.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy
from torch import Tensor, nn

from underpaint import recipes
from underpaint.core import DataInfo, LabelBatch
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import resize_positions, save_encoder
from underpaint.objectives.classify import Classify, ClassifyConfig
from underpaint.run import Run
from underpaint.run.idle_fields import override_run
from underpaint.run.starting_encoder import with_shape_of_start
from underpaint.training.optim import build_optimizer, set_learning_rate

CLASSES = 10
DEPTH = {"b16": 12, "l16": 24, "h14": 32}
DECAY = {"b16": 0.65, "l16": 0.75, "h14": 0.75}


def finetune(size: str) -> Run:
    return recipes.find_recipe(f"finetune_in1k_vit_{size}")()


def classify_of(run: Run) -> ClassifyConfig:
    assert isinstance(run.objective, ClassifyConfig)
    return run.objective


def built(config: ClassifyConfig) -> Classify:
    return config.build(DataInfo(seed=3, labels=tuple(map(str, range(CLASSES)))))


def mae_layer(name: str, layers: int) -> int:
    """``get_layer_id_for_vit`` of MAE's util/lr_decay.py; ``layers`` is the depth and one."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    if name.startswith("blocks"):
        return int(name.split(".")[1]) + 1
    return layers


def mae_groups(model: nn.Module, *, depth: int, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """``param_groups_lrd``: one group of each layer with decay and one without, each with its scale of the rate."""
    groups: dict[str, dict[str, Any]] = {}
    scales = [layer_decay ** (depth + 1 - layer) for layer in range(depth + 2)]
    for name, parameter in model.named_parameters():
        undecayed = parameter.ndim == 1 or name in ("pos_embed", "cls_token")
        layer = mae_layer(name, depth + 1)
        key = f"layer_{layer}_{'no_decay' if undecayed else 'decay'}"
        made = {
            "lr_scale": scales[layer],
            "weight_decay": 0.0 if undecayed else weight_decay,
            "params": [],
            "names": [],
        }
        group = groups.setdefault(key, made)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def mae_name(ours: str) -> str:
    return ours.removeprefix("encoder.")


@pytest.mark.parametrize("size", DEPTH)
def test_layer_decay_groups_are_maes(size: str) -> None:
    """Scale of the rate and weight decay of every parameter; the groups of each size as a list."""
    run, depth, decay = finetune(size), DEPTH[size], DECAY[size]
    with torch.device("meta"):
        objective = built(classify_of(run))
    optimizer = build_optimizer(objective, run.optim, layer_of=objective.layer_of)
    number = {id(parameter): mae_name(name) for name, parameter in objective.named_parameters()}
    ours = {
        number[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    named = {mae_name(name): parameter for name, parameter in objective.named_parameters()}

    class Named(nn.Module):
        def named_parameters(self, *_: Any, **__: Any) -> Any:
            return iter(named.items())

    theirs: dict[str, tuple[float, float]] = {}
    groups = mae_groups(Named(), depth=depth, weight_decay=0.05, layer_decay=decay)
    for group in groups:
        theirs |= dict.fromkeys(group["names"], (group["lr_scale"], group["weight_decay"]))
    assert ours.keys() == theirs.keys()
    for name, (scale, weight_decay) in theirs.items():
        assert ours[name] == (pytest.approx(scale, rel=1e-12), weight_decay), name
    listed = {(layer, kind): decay ** (depth + 1 - layer) for layer in range(depth + 2) for kind in ("decay", "none")}
    assert len(optimizer.param_groups) == len(groups) == len(listed) == 2 * (depth + 2)
    scales = sorted({round(group["lr_scale"], 12) for group in optimizer.param_groups})
    assert scales == sorted({round(scale, 12) for scale in listed.values()})
    first = {"b16": 0.65**13, "l16": 0.75**25, "h14": 0.75**33}[size]
    assert ours["patch_embed.proj.weight"] == (pytest.approx(first), 0.05)
    assert ours["patch_embed.proj.bias"] == ours["cls_token"] == ours["pos_embed"] == (pytest.approx(first), 0.0)
    assert ours["blocks.0.attn.qkv.weight"][0] == pytest.approx(decay**depth)
    assert ours[f"blocks.{depth - 1}.mlp.fc2.weight"] == (pytest.approx(decay), 0.05)
    assert ours["head.weight"] == (1.0, 0.05)
    assert ours["fc_norm.weight"] == ours["fc_norm.bias"] == ours["head.bias"] == (1.0, 0.0)


def published_step(
    start: dict[str, Tensor], image: Tensor, label: Tensor, *, rate: float, encoder: ViTConfig
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """Loss, gradients and weights after one step of MAE's main_finetune.py without augmentation."""
    model = timm.create_model(
        "vit_base_patch16_224",
        img_size=encoder.size[0],
        depth=encoder.depth,
        num_classes=CLASSES,
        global_pool="avg",  # pools the patch tokens and norms the mean (fc_norm), as MAE's models_vit.py
        class_token=True,
    )
    model.load_state_dict(start)
    groups = mae_groups(model, depth=encoder.depth, weight_decay=0.05, layer_decay=0.65)
    optimizer = torch.optim.AdamW([{**group, "lr": rate * group["lr_scale"]} for group in groups], betas=(0.9, 0.999))
    loss = LabelSmoothingCrossEntropy(0.1)(model(image), label)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    return float(loss.detach()), gradients, dict(model.state_dict())


def our_step(
    objective: Classify, run: Run, batch: LabelBatch, *, rate: float
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    optimizer = build_optimizer(objective, run.optim, layer_of=objective.layer_of)
    set_learning_rate(optimizer, rate)
    loss = objective.train()(batch).loss
    loss.backward()
    named = {mae_name(name): parameter for name, parameter in objective.named_parameters()}
    gradients = {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}
    optimizer.step()
    return float(loss.detach()), gradients, {mae_name(name): value for name, value in objective.state_dict().items()}


@pytest.mark.slow
def test_a_step_is_maes() -> None:
    """At the real depth, width and peak rate, on images of 4 patches, whose positions are resized from 196.

    Gradients are equal to 1e-6 everywhere, weights after the step to 1e-6 wherever the gradient is larger than that:
    Adam's first step divides each gradient by itself, and the quotient of gradients that are zero but for rounding, as
    those of the keys' bias, is noise.
    """
    run = finetune("b16")
    config = classify_of(run)
    config = replace(config, encoder=replace(config.encoder, size=(32, 32)), drop_path=0.0)
    objective = built(config)
    with torch.no_grad():  # not MAE's start of the head, so small that its gradients would say little
        generator = torch.Generator().manual_seed(0)
        objective.head.weight.normal_(0, 0.05, generator=generator)
        positions = resize_positions(torch.randn(1, 197, 768, generator=generator) * 0.02, (14, 14), (2, 2))
        objective.encoder.pos_embed.copy_(positions)
    start = {mae_name(name): value.clone() for name, value in objective.state_dict().items()}
    image = torch.randn(4, 3, 32, 32, generator=generator)
    label = torch.tensor([3, 1, 7, 3])
    batch: LabelBatch = {
        "image": image,
        "labels": label[:, None],
        "position": torch.arange(4),
        "weight": torch.ones(4),
    }
    rate = run.optim.peak_lr(run.budget.batch_size)
    assert rate == 2e-3
    theirs = published_step(start, image, label, rate=rate, encoder=config.encoder)
    ours = our_step(objective, run, batch, rate=rate)
    assert ours[0] == pytest.approx(theirs[0], abs=1e-6)
    assert ours[1].keys() == theirs[1].keys()
    noisy = 0
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=1e-4, atol=1e-6)
        clear = gradient.abs() > 1e-6
        noisy += int((~clear).sum())
        change = (ours[2][name] - theirs[2][name]).abs()
        assert float(change[clear].max()) <= 1e-6, name
        assert float((ours[2][name] - start[name])[clear].abs().max()) > 0
    total = sum(gradient.numel() for gradient in theirs[1].values())
    assert noisy < 0.02 * total, f"{noisy} of {total} gradients are rounding alone"


def test_the_encoder_s_shape_comes_from_the_start(tmp_path: Path) -> None:
    """Nobody types width and depth: a laptop's encoder is finetuned by the published recipe, at the recipe's size."""
    small = ViTConfig(size=(48, 48), patch=8, width=24, depth=3, heads=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.random.fork_rng():
        save_encoder(tmp_path / "encoder", ViT(small))
    for name in ("finetune_in1k_vit_b16", "finetune_in1k_vit_b16_512"):
        run = override_run(recipes.find_recipe(name)(), [f"init_from={tmp_path}"])
        encoder, recipe = classify_of(run).encoder, classify_of(recipes.find_recipe(name)()).encoder
        assert (encoder.patch, encoder.width, encoder.depth, encoder.heads, encoder.mean) == (8, 24, 3, 3, (0.5,) * 3)
        assert (encoder.size, encoder.view, encoder.final_norm) == (recipe.size, recipe.view, recipe.final_norm)
        assert with_shape_of_start(run) == run
    with pytest.raises(ValueError, match=r"objective.encoder.width=36 does nothing: init_from brings it; leave it out"):
        override_run(finetune("b16"), [f"init_from={tmp_path}", "objective.encoder.width=36"])
    given = ["objective.shape_from_start=false", "objective.encoder.width=48"]
    kept = override_run(finetune("b16"), [f"init_from={tmp_path}", *given])
    assert classify_of(kept).encoder.width == 48
    odd = replace(classify_of(finetune("b16")).encoder, size=(36, 36), patch=4)
    bad = replace(
        finetune("b16"), init_from=str(tmp_path), objective=replace(classify_of(finetune("b16")), encoder=odd)
    )
    with pytest.raises(ValueError, match=r"size=\(36, 36\) is not divisible by patch=8"):
        with_shape_of_start(bad)
