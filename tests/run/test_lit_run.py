"""Runs of LiT: from an encoder to a model that tags images by words, resumed to the same bits, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.small_runs import BATCH, EVERY_STEP, SendSignal, assert_same_bits, log_lines, wsp_run
from underpaint.data.captions.caption_data import CaptionData
from underpaint.inference import predict
from underpaint.models.text_tower import TextConfig
from underpaint.models.weights import load_encoder, load_tokenizer
from underpaint.objectives.lit import Lit, LitConfig
from underpaint.run import Budget, Run, encoder_of, execute
from underpaint.run.idle_fields import override_run
from underpaint.run.outputs import load_model
from underpaint.search.queries import search_images
from underpaint.training.optim import OptimConfig
from underpaint.training.signals import Interrupted

TEXT = TextConfig(vocabulary=80, positions=18, width=16, depth=1, heads=2)


def lit_run(images: Path, encoder: Path, *, steps: int = 12, evals: tuple[SendSignal, ...] = ()) -> Run:
    return Run(
        name="lit_test",
        objective=LitConfig(encoder=encoder_of(wsp_run(images)), text=TEXT, width=16, tokens=12),
        data=CaptionData(source=str(images), templates=("a photo of something {}", "{} things"), scale=(0.4, 1.0)),
        budget=Budget(samples=steps * BATCH, batch_size=BATCH, microbatch=BATCH, warmup=BATCH),
        optim=OptimConfig(base_lr=0.1, weight_decay=1e-4),
        init_from=str(encoder),
        cadence=EVERY_STEP,
        evals=evals,
        threads=1,
        device="cpu",
    )


@pytest.fixture(scope="module")
def encoder(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lit") / "wsp"
    execute(wsp_run(images, steps=30), folder)
    return folder


@pytest.fixture(scope="module")
def finished(images: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lit") / "lit"
    execute(lit_run(images, encoder, steps=40), folder)
    return folder


def test_a_text_tower_learns_a_locked_encoder(images: Path, encoder: Path, finished: Path) -> None:
    losses = [line["loss"] for line in log_lines(finished) if "loss" in line]
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])
    started, kept = load_encoder(encoder).state_dict(), load_encoder(finished).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in started.items())
    model, tokenize = load_model(finished), load_tokenizer(finished)
    assert isinstance(model, Lit)
    assert model.embed_text(tokenize(["a red thing"])).shape == (1, 16)
    recorded = json.loads((finished / "model" / "config.json").read_text())["caption_languages"]
    assert recorded.keys() == {""}  # made of tags, by templates
    tagged = list(predict(finished, [images / "a" / "b" / "000.png"], top=2, labels=["red; ruby", "green", "blue"]))
    assert len(tagged[0].labels) == 2
    assert not tagged[0].problem


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(images: Path, encoder: Path, tmp_path: Path) -> None:
    execute(lit_run(images, encoder), tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(lit_run(images, encoder, evals=(SendSignal(number=signal.SIGTERM),)), tmp_path / "stopped")
    execute(lit_run(images, encoder), tmp_path / "stopped")
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")


def test_cached_features_resume_to_the_same_bits(images: Path, encoder: Path, tmp_path: Path) -> None:
    def cached(**options: Any) -> Run:
        run = lit_run(images, encoder, **options)
        return replace(run, objective=replace(run.objective, cached_features=True))

    execute(cached(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(cached(evals=(SendSignal(number=signal.SIGTERM),)), tmp_path / "stopped")
    execute(cached(), tmp_path / "stopped")
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    assert not next(iter(predict(tmp_path / "whole", [images / "a" / "001.png"], labels=["red", "blue"]))).problem
    with pytest.raises(ValueError, match="cached features are those of a finished encoder: set init_from=RUN"):
        execute(replace(cached(), init_from=""), tmp_path / "scratch")
    with pytest.raises(ValueError, match=r"data\.scale=0\.5,1 does nothing: the image features are cached"):
        override_run(cached(), ["data.scale=0.5,1"])
    with pytest.raises(ValueError, match="keeps the features of a locked image tower, and unlocked_blocks=1 trains it"):
        replace(cached().objective, unlocked_blocks=1)  # pyright: ignore[reportCallIssue]


def test_a_search_reads_the_features_that_training_has_kept(
    images: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    run = lit_run(images, encoder, steps=2)
    execute(replace(run, objective=replace(run.objective, cached_features=True)), tmp_path / "run")
    (store,) = (tmp_path / "cache" / "features").iterdir()
    search_images(tmp_path / "run", images, "red")
    assert list((tmp_path / "cache" / "features").iterdir()) == [store]


def test_it_goes_on_from_its_own_text_tower(images: Path, encoder: Path, finished: Path, tmp_path: Path) -> None:
    run = lit_run(images, encoder, steps=2)
    further = replace(run, objective=replace(run.objective, text_from=str(finished)))
    execute(replace(further, optim=OptimConfig(base_lr=1e-12, weight_decay=0.0)), tmp_path / "further")
    before, after = (load_model(folder).text.state_dict() for folder in (finished, tmp_path / "further"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
    tokenizers = [load_tokenizer(folder) for folder in (finished, tmp_path / "further")]
    assert tokenizers[0].xxh3 == tokenizers[1].xxh3
    identity = json.loads((tmp_path / "further" / "run.json").read_text())["identity"]
    assert identity["text_from"]
    wider = replace(further, objective=replace(further.objective, text=replace(TEXT, width=32)))
    with pytest.raises(ValueError, match=r"of another form than this run's; add objective\.text\.width=16"):
        execute(wider, tmp_path / "wider")


def test_a_tokenizer_of_another_tower_is_refused(images: Path, encoder: Path, finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished / "model", tmp_path / "model")
    file = moved / "tokenizer" / "sentencepiece.bpe.model"
    file.write_bytes(file.read_bytes() + b"\0\0")
    with pytest.raises(ValueError, match=r"does not match the checksum in .*: it is another model's tokenizer, or"):
        load_tokenizer(moved)
    run = lit_run(images, encoder)
    with pytest.raises(ValueError, match="it is another model's tokenizer, or damaged"):
        execute(replace(run, objective=replace(run.objective, text_from=str(moved))), tmp_path / "run")


def test_microbatches_are_refused(images: Path, encoder: Path, tmp_path: Path) -> None:
    run = lit_run(images, encoder)
    with pytest.raises(ValueError, match=r"compares all pairs of a batch, .*: set budget\.microbatch=16"):
        execute(replace(run, budget=replace(run.budget, microbatch=4)), tmp_path / "run")
