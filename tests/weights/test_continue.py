"""A MAE that goes on from imported weights: without a decoder it trains a fresh one first, with one it keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from support import weights_examples as examples
from support.small_runs import RUNS, make_images
from underpaint.core import DataInfo
from underpaint.models.mae_decoder import DecoderConfig
from underpaint.models.vit import ViTConfig
from underpaint.models.weights import decoder_to_start_from
from underpaint.objectives.mae import MAEConfig
from underpaint.run import Run, execute
from underpaint.weights.importing import import_weights


def imported(folder: Path, base: Run) -> Path:
    c = base.objective.encoder
    form = {"img_size": c.size[0], "patch_size": c.patch, "embed_dim": c.width, "depth": c.depth, "num_heads": c.heads}
    torch.save(examples.timm_model(**form).state_dict(), folder / "vit.pt")
    import_weights(folder / "vit.pt", folder / "imported", [f"heads={c.heads}", *examples.TOLD[1:]])
    return folder / "imported"


def test_a_fresh_decoder_is_trained_on_the_frozen_encoder_and_then_both_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = RUNS["mae"](make_images(tmp_path / "images"), steps=3)
    start = imported(tmp_path, base)
    first = replace(base, objective=replace(base.objective, frozen_encoder=True), init_from=str(start))
    execute(first, tmp_path / "decoder")
    encoder = load_file(start / "encoder" / "model.safetensors")
    after = load_file(tmp_path / "decoder" / "model" / "model.safetensors")
    assert all(torch.equal(value, after[f"encoder.{name}"]) for name, value in encoder.items())
    fresh = base.objective.build(DataInfo(seed=base.seed)).state_dict()
    trained = [name for name in fresh if name.startswith("decoder.") and "pos_embed" not in name]
    assert all(not torch.equal(fresh[name], after[name]) for name in trained)

    network: Any = base.objective.build(DataInfo(seed=0))
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    kept = decoder_to_start_from(str(tmp_path / "decoder"), shapes)
    assert kept.keys() == {name for name in shapes if name.startswith("decoder.")}
    assert all(torch.equal(value, after[name]) for name, value in kept.items())
    assert decoder_to_start_from(str(tmp_path / "decoder" / "encoder"), shapes) == {}
    assert decoder_to_start_from(str(start), shapes) == {}

    still = replace(base, optim=replace(base.optim, base_lr=1e-12))  # so that a run ends where it started
    for out, source in (("on", tmp_path / "decoder"), ("anew", tmp_path / "decoder" / "encoder")):
        execute(replace(still, init_from=str(source)), tmp_path / out)
    on, anew = (load_file(tmp_path / out / "model" / "model.safetensors") for out in ("on", "anew"))
    for name in trained:
        torch.testing.assert_close(on[name], after[name], rtol=0, atol=1e-8)
        torch.testing.assert_close(anew[name], fresh[name], rtol=0, atol=1e-8)
    learning = execute(replace(base, init_from=str(tmp_path / "decoder")), tmp_path / "learning")
    moved = load_file(tmp_path / "learning" / "encoder" / "model.safetensors")
    assert any(not torch.equal(value, moved[name]) for name, value in encoder.items())
    printed = capsys.readouterr().err
    hint = "has no such decoder, so it is fresh (objective.frozen_encoder=true trains it first)"
    assert printed.count(hint) == 1  # of "anew" alone
    assert f"{tmp_path / 'decoder' / 'encoder'} {hint}" in printed
    assert learning["samples"] == 48


@pytest.mark.parametrize("frozen", [True, False])
def test_flops_with_a_frozen_encoder_are_those_that_torch_counts(frozen: bool) -> None:
    encoder = ViTConfig(size=(32, 48), patch=8, width=32, depth=3, heads=4)
    config = MAEConfig(encoder=encoder, decoder=DecoderConfig(width=16, depth=2, heads=2), frozen_encoder=frozen)
    network = config.build(DataInfo(seed=0)).to("meta")  # on some processors the counter misses attention
    batch: Any = {"image": torch.randn(2, 3, 32, 48), "position": torch.arange(2), "weight": torch.ones(2)}
    batch = {name: value.to("meta") for name, value in batch.items()}
    with FlopCounterMode(display=False) as counter:
        network(batch).loss.backward()
    assert counter.get_total_flops() == pytest.approx(2 * config.flops_per_sample(DataInfo(seed=0)), rel=0.02)
