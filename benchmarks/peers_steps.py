"""One contender of peers.py in a process of its own: its training step, its memory, and its loss beside ours.

    python benchmarks/peers_steps.py transformers --variant bf16 --size small --steps 3
    python benchmarks/peers_steps.py timm --check

Prints one line of JSON. `shipped` is fp32 and torch's AdamW as it comes, as the peers' own examples have it; `bf16`
adds autocast and the fused AdamW; `lean` is ours in bf16 with `parallel.recompute_pointwise`. Ours runs in the real
loop, with its norm of the gradients and its checks of the loss; data is noise that lies in memory, and the masks of MAE
are drawn in the step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import plan_memory
import torch
from torch import Tensor, nn

from underpaint import recipes
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.objectives.mae import MAE, MAEConfig
from underpaint.plan.parameters import assumed_data
from underpaint.run import Run
from underpaint.run.bare_steps import take_steps

MIB = 1 << 20
TAGS = 5
WARM_UP = 2
"""More steps, not timed: in the third one the heap still grew, and a step of ours took an eighth longer than later."""
CLOCKS = {"wall": time.perf_counter, "process": time.process_time}
NAMES = ("ours", "ours-wsp", "transformers", "lightly", "stable-pretraining", "timm")


@dataclass(frozen=True, kw_only=True)
class Size:
    encoder: ViTConfig
    decoder: DecoderConfig
    batch: int
    labels: int


SIZES = {
    "base": Size(encoder=ViTConfig(), decoder=DecoderConfig(), batch=16, labels=28_000),
    "small": Size(
        encoder=ViTConfig(size=(64, 64), patch=8, width=192, depth=12, heads=3),
        decoder=DecoderConfig(width=128, depth=4, heads=4),
        batch=128,
        labels=1_000,
    ),
    "smoke": Size(
        encoder=ViTConfig(size=(32, 32), patch=8, width=32, depth=2, heads=2),
        decoder=DecoderConfig(width=16, depth=1, heads=2),
        batch=4,
        labels=10,
    ),
}
Forward = Callable[[], Tensor]
"""The loss of the batch."""


def run_of(stage: str, size: Size, batch: int, precision: Any, *, lean: bool = False) -> Run:
    """The published recipe of a stage at another size, one microbatch a step."""
    run = recipes.find_recipe(f"{stage}_vit_b16")()
    encoder = replace(size.encoder, positions=run.objective.encoder.positions)
    changes: Any = {"encoder": encoder} | ({"decoder": size.decoder} if stage == "mae" else {"head_init_std": 0.02})
    objective: Any = replace(run.objective, **changes)
    budget = replace(run.budget, batch_size=batch, microbatch=batch)
    parallel = replace(run.parallel, recompute_pointwise=lean)
    return replace(run, objective=objective, budget=budget, parallel=parallel, precision=precision, device="cpu")


def batch_of(size: Size, count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    batch = plan_memory.noise(size.encoder, count, generator)
    return batch | {"labels": torch.rand(count, size.labels, generator=generator).argsort(dim=1)[:, :TAGS]}


def timm_vit(size: Size, classes: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    c = size.encoder
    shape: Any = {"img_size": c.size, "patch_size": c.patch, "embed_dim": c.width, "depth": c.depth}
    return VisionTransformer(**shape, num_heads=c.heads, num_classes=classes)


def hf_mae(size: Size) -> Any:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    c, d = size.encoder, size.decoder
    config: dict[str, Any] = {
        "image_size": c.size[0],
        "patch_size": c.patch,
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "intermediate_size": c.mlp_ratio * c.width,
        "layer_norm_eps": c.norm_eps,
        "decoder_hidden_size": d.width,
        "decoder_num_hidden_layers": d.depth,
        "decoder_num_attention_heads": d.heads,
        "decoder_intermediate_size": d.mlp_ratio * d.width,
        "norm_pix_loss": True,
    }
    return ViTMAEForPreTraining(ViTMAEConfig(**config))


class LightlyMAE(nn.Module):
    """From lightly's parts, put together as in its example, with the per-patch targets of its benchmark."""

    def __init__(self, size: Size) -> None:
        from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM

        super().__init__()
        c, d = size.encoder, size.decoder
        self.patch, self.mask_ratio = c.patch, 0.75
        vit: Any = timm_vit(size, 0)
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.decoder = MAEDecoderTIMM(
            num_patches=c.num_patches,
            patch_size=c.patch,
            embed_dim=c.width,
            decoder_embed_dim=d.width,
            decoder_depth=d.depth,
            decoder_num_heads=d.heads,
        )

    def forward(self, images: Tensor, masks: tuple[Tensor, Tensor] | None = None) -> Tensor:
        from lightly.models import utils

        size = (len(images), self.backbone.sequence_length)
        keep, hidden = masks or utils.random_token_mask(size=size, mask_ratio=self.mask_ratio, device=images.device)
        decoded = self.decoder.embed(self.backbone.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, keep, decoded.type_as(tokens))
        predicted = self.decoder.predict(utils.get_at_index(self.decoder.decode(tokens), hidden))
        target = utils.get_at_index(utils.patchify(images, self.patch), hidden - 1)
        return nn.functional.mse_loss(predicted, utils.normalize_mean_var(target))


def peer(name: str, size: Size, batch: dict[str, Tensor]) -> tuple[nn.Module, Forward]:
    """A peer's network in training mode on the device of a batch, and its loss of that batch."""
    image = batch["image"]
    device = image.device
    network: Any
    if name == "transformers":
        network = hf_mae(size).to(device).train()
        return network, lambda: network(pixel_values=image).loss
    if name == "lightly":
        network = LightlyMAE(size).to(device).train()
        return network, lambda: network(image)
    if name == "stable-pretraining":
        from stable_pretraining.methods import MAE as Theirs  # noqa: N811

        d = size.decoder
        vit: Any = timm_vit(size, 0)
        network = (
            Theirs(vit, decoder_embed_dim=d.width, decoder_depth=d.depth, decoder_num_heads=d.heads).to(device).train()
        )
        return network, lambda: network(image).loss
    from timm.loss import SoftTargetCrossEntropy

    network, loss = timm_vit(size, size.labels).to(device).train(), SoftTargetCrossEntropy()
    target = torch.zeros(len(image), size.labels, device=device).scatter_(1, batch["labels"], 1 / TAGS)
    return network, lambda: loss(network(image), target)


def our_steps(stage: str, size: Size, count: int, *, variant: str) -> tuple[nn.Module, Any, Callable[[int], None]]:
    """Network, optimizer, and so many more steps of the loop."""
    run = run_of(stage, size, count, "fp32" if variant == "shipped" else "bf16", lean=variant == "lean")
    state = plan_memory.state_of(run, labels=size.labels, compiled=variant == "compiled")
    batches = itertools.repeat(batch_of(size, count))

    def more(steps: int) -> None:
        take_steps(state, batches, run, steps=steps, rate=1e-4)

    return state.objective, state.optimizer, more


def peer_steps(name: str, size: Size, count: int, *, variant: str) -> tuple[nn.Module, Any, Callable[[int], None]]:
    network, forward = peer(name, size, batch_of(size, count))
    parameters: list[nn.Parameter] = list(nn.Module.parameters(network))
    fused = variant == "bf16"
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.05, **({"fused": True} if fused else {}))

    def more(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fused):
                loss = forward()
            loss.backward()
            optimizer.step()

    return network, optimizer, more


def measure(options: argparse.Namespace, size: Size) -> dict[str, Any]:
    """Images per second of each step, and memory: what torch's allocator holds at most, and the resident set."""
    count = options.batch or size.batch
    ours = {"ours": "mae", "ours-wsp": "wsp"}
    if options.name in ours:
        network, optimizer, more = our_steps(ours[options.name], size, count, variant=options.variant)
    else:
        network, optimizer, more = peer_steps(options.name, size, count, variant=options.variant)
    more(1)  # makes the state of the optimizer
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]
    held = sum(value.nbytes for value in (*nn.Module.parameters(network), *network.buffers(), *state))
    peak = allocated(more)
    more(WARM_UP)
    rates: list[float] = []
    clock = CLOCKS[options.clock]
    for _ in range(options.steps):
        started = clock()
        more(1)
        rates.append(count / (clock() - started))
    resident = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {
        "rates": rates,
        "allocated": (held + peak) / MIB,
        "resident": int(resident[1]) / 1024 if resident else 0.0,
        "version": _version(options.name),
    }


def allocated(more: Callable[[int], None]) -> int:
    """Bytes that torch's allocator gives at most in one step, beyond what lay there."""
    return plan_memory.allocated(lambda: more(1))


def check(name: str, size: Size) -> dict[str, Any]:
    """Our loss and the peer's on the same weights, images and masks, in fp32; or why they cannot be compared."""
    if name == "stable-pretraining":
        return {"reason": "its decoder does not see the cls token: another network"}
    batch, data_info = batch_of(size, 2), assumed_data(size.labels)
    if name == "timm":
        ours = run_of("wsp", size, 2, "fp32").objective.build(data_info)
        network, forward = peer(name, size, batch)
        loaded = {key.removeprefix("encoder."): value for key, value in ours.state_dict().items()}
        network.load_state_dict(loaded)
        return {"ours": float(ours(batch).loss.detach()), "theirs": float(forward().detach())}
    if name == "transformers":
        network = hf_mae(size)
        mae = _imported(network)
    else:
        config = run_of("mae", size, 2, "fp32").objective
        assert isinstance(config, MAEConfig)
        mae, network = config.build(data_info), LightlyMAE(size)
        renamed = {key.replace("encoder.", "backbone.vit.", 1): value for key, value in mae.state_dict().items()}
        missing, _ = network.load_state_dict(renamed | {"backbone.mask_token": network.backbone.mask_token})
        assert not missing
    keep, hidden = mae.masks(batch["position"])
    theirs: Tensor
    if name == "transformers":
        noise = torch.cat([keep, hidden], dim=1).argsort(dim=1).float()  # it keeps those with the least noise
        theirs = network(pixel_values=batch["image"], noise=noise).loss
    else:
        cls = torch.zeros(2, 1, dtype=torch.int64)
        theirs = network(batch["image"], (torch.cat([cls, keep + 1], dim=1), hidden + 1))
    return {"ours": float(mae(batch).loss.detach()), "theirs": float(theirs.detach())}


def _imported(network: Any) -> MAE:
    """A network of transformers as ours, by `underpaint import`."""
    from underpaint import import_weights, load_model

    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(f"{folder}/theirs")
        import_weights(f"{folder}/theirs", out=f"{folder}/ours")
        found = load_model(f"{folder}/ours/model")
    assert isinstance(found, MAE)
    return found


def _version(name: str) -> str:
    from importlib.metadata import version

    return "" if name.startswith("ours") else version(name)


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")  # of the peers' own
    size = SIZES[options.size]
    torch.manual_seed(0)
    print(json.dumps(check(options.name, size) if options.check else measure(options, size)), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--variant", choices=("shipped", "bf16", "lean", "compiled"), default="bf16")
    parser.add_argument("--size", choices=tuple(SIZES), default="base")
    parser.add_argument("--batch", type=int, default=0, help="(default: that of the size)")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
