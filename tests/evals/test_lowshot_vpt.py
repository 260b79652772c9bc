"""Low-shot evaluation with trained prompts, and lists of splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from underpaint.data.feature_store import Staff
from underpaint.data.source import Source
from underpaint.evals import lowshot_vpt
from underpaint.evals.engine import Engine
from underpaint.evals.few_shots import FewShots
from underpaint.evals.lowshot import LowShot
from underpaint.evals.lowshot_vpt import Candidate, LowShotVPT
from underpaint.evals.scoring import row_of
from underpaint.evals.split_lists import split_lists, write_split_lists
from underpaint.evals.transfer import transfer
from underpaint.models.vit import ViT
from underpaint.results.run import describe_score
from underpaint.training.loop import NonFiniteLoss

CPU = torch.device("cpu")


QUICK = {"epochs": 20, "base_lr": (0.5,), "splits": 2, "shots": 3}


def test_prompts_learn_few_images_and_leave_the_encoder_as_it_was(source: Source, encoder: ViT) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    trained = [parameter.requires_grad for parameter in encoder.parameters()]
    scores = LowShotVPT(dataset="colours", **QUICK)(encoder, source=source, device=CPU, seed=0)
    assert [(score.protocol, score.shots, score.split) for score in scores] == [
        ("lowshot_vpt", 3, "0"),
        ("lowshot_vpt", 3, "1"),
        ("lowshot_vpt", 3, "mean"),
    ]
    tested = tuple(source.path[row] for row in source.rows("test"))
    for score in scores:
        assert score.image == tested
        assert score.correct[tested.index("green/green_11.png")] == 0, "an image that cannot be read is wrong"
        assert score.value > 0.8
        assert score.view == "crop@8/9"
        assert "1 of 12 test images could not be read and count as wrong: 'green/green_11.png'" in score.remarks
    values = torch.tensor([score.value for score in scores[:2]], dtype=torch.float64)
    assert scores[2].settings["deviation"] == pytest.approx(float(values.std()))
    assert "between splits" in describe_score(row_of(scores[2]))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert [parameter.requires_grad for parameter in encoder.parameters()] == trained
    again = LowShotVPT(dataset="colours", **QUICK)(encoder, source=source, device=CPU, seed=0)
    assert again == scores


@pytest.mark.slow
def test_workers_read_the_training_crops_and_change_no_bit(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lowshot_vpt, "IMAGES_OF_WORKER", 180)
    protocol = LowShotVPT(dataset="colours", **QUICK)
    engine = Engine(device=CPU, staff=Staff(workers=1))
    tuning = lowshot_vpt.PromptTuning(protocol, encoder, source, engine, 0)
    rows = source.rows("train")[:9]
    assert tuning.stream(rows, 9, 0).batching.workers == 1, "180 crops are a worker's"
    scores = protocol.measure(encoder, source=source, engine=engine, seed=0)
    assert scores == protocol(encoder, source=source, device=CPU, seed=0)


def test_all_protocols_draw_the_same_readable_images(source: Source, encoder: ViT) -> None:
    logistic = transfer(encoder, source, protocols=[LowShot(dataset="colours", shots=7)], seed=3, device=CPU)
    protocol = LowShotVPT(dataset="colours", shots=7, epochs=1, base_lr=(0.01,))
    prompts = protocol(encoder, source=source, device=CPU, seed=3)
    assert [score.training for score in prompts] == [score.training for score in logistic]
    assert Counter(path.split("/")[0] for path in prompts[0].training) == {"blue": 7, "green": 7, "red": 7}
    assert all("green/green_03.png" not in score.training for score in prompts)


def test_a_written_list_is_read_again(source: Source, encoder: ViT, tmp_path: Path) -> None:
    drawn = LowShot(dataset="colours", shots=2, splits=2)(encoder, source=source, device=CPU, seed=1)
    lists = split_lists(drawn)
    assert [name for name, _ in lists] == ["2-shot-0", "2-shot-1"]
    write_split_lists(tmp_path / "lists", lists)
    files = tuple(str(tmp_path / "lists" / f"{name}.txt") for name, _ in lists)
    assert Path(files[1]).read_text().splitlines() == list(drawn[1].training)
    read = LowShot(dataset="colours", shots=2, lists=files)(encoder, source=source, device=CPU, seed=99)
    assert [score.correct for score in read] == [score.correct for score in drawn]


def test_names_without_folders_are_matched_as_in_msn_s_lists(source: Source, tmp_path: Path) -> None:
    file = tmp_path / "1imgs_class.txt"
    file.write_text("red_05.png\nblue_00.png\n\ngreen_03.png\n")
    protocol = LowShot(dataset="colours", shots=1, lists=(str(file),))
    assert protocol.check(source) == []
    from underpaint.evals.class_splits import labelled_images

    rows = source.rows("train")
    half = labelled_images(source, rows, ("blue", "green", "red"), unknown=-1)
    assert [half.image[place] for place in protocol.drawn(half, unread=(), seed=0)[0]] == [
        "blue/blue_00.png",
        "green/green_03.png",
        "red/red_05.png",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("red_05.png\nred_99.png\n", "names 'red_99.png', which is not one of the 24 training images"),
        ("red_11.png\n", "names 'red_11.png', which is not one of the 24"),  # a test image
        ("red_05.png\nred_06.png\n", "up to 2 images of a class .'red'.: set shots=2"),
        ("red_05.png\nred_05.png\n", "has 'red_05.png' 2 times"),
        ("red_05.png\nred/red_05.png\n", "names an image twice"),
        ("", "is empty"),
    ],
)
def test_wrong_lists_are_named_before_anything_is_computed(
    source: Source, encoder: ViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, message: str
) -> None:
    file = tmp_path / "list.txt"
    file.write_text(lines)
    protocol = LowShot(dataset="colours", shots=1, lists=(str(file),))
    monkeypatch.setattr("underpaint.evals.transfer.extract_task", None)
    with pytest.raises(ValueError, match=message):
        transfer(encoder, source, protocols=[protocol], seed=0, device=CPU)


def test_short_classes_are_named_before_anything_is_computed(source: Source) -> None:
    label = tuple(
        "rare" if path == "red/red_00.png" else name for path, name in zip(source.path, source.label, strict=True)
    )
    (remark,) = FewShots(dataset="colours", shots=5).check(replace(source, label=label))
    assert remark == (
        "1 of 4 classes have fewer than 5 training images, such as 'rare': lower shots, or label more images of them"
    )
    assert FewShots(dataset="colours", shots=1).check(replace(source, label=label)) == []


def test_the_rate_is_chosen_on_held_out_images_of_the_first_split(
    source: Source, encoder: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[int, Candidate]] = []
    original = lowshot_vpt.PromptTuning.train

    def spy(self: lowshot_vpt.PromptTuning, rows: list[int], candidate: Candidate, *, split: int) -> object:
        assert {source.splits[row] for row in rows} == {("train",)}
        trained.append((len(rows), candidate))
        if candidate.base_lr == 50:
            raise NonFiniteLoss("diverged")
        return original(self, rows, candidate, split=split)

    monkeypatch.setattr(lowshot_vpt.PromptTuning, "train", spy)
    protocol = LowShotVPT(dataset="colours", shots=5, splits=2, epochs=20, base_lr=(50.0, 0.5, 1e-6))
    scores = protocol(encoder, source=source, device=CPU, seed=0)
    assert [(count, candidate.base_lr) for count, candidate in trained] == [
        (12, 1e-6),
        (12, 0.5),
        (12, 50.0),
        (15, 0.5),
        (15, 0.5),
    ]
    assert scores[-1].settings["base_lr"] == 0.5
    assert scores[-1].settings["tuning_top1"] == 1.0


def test_one_image_per_class_cannot_choose_a_rate() -> None:
    with pytest.raises(ValueError, match="one image per class leaves none to choose one of 36 settings by"):
        LowShotVPT(dataset="colours", shots=1, preset="kmnp")
    assert LowShotVPT(dataset="colours", shots=1, preset="kmnp", base_lr=(1.0,), weight_decay=(1e-4,)).candidates() == [
        Candidate(1.0, 1e-4)
    ]


def test_the_presets_are_the_published_ones() -> None:
    tuned = LowShotVPT(dataset="colours").recipe
    assert (tuned.prompts, tuned.prompt_width, tuned.optimizer, tuned.base_lr) == (8, 192, "adamw", (1e-3,))
    assert (tuned.weight_decay, tuned.epochs, tuned.warmup, tuned.label_smoothing) == ((0.0,), 50, 5, 0.1)
    grid = LowShotVPT(dataset="colours", preset="kmnp")
    assert len(grid.candidates()) == 36
    assert grid.candidates()[0] == Candidate(0.1, 1e-2)
    assert (grid.recipe.prompts, grid.recipe.epochs, grid.recipe.warmup) == (5, 100, 10)
    assert replace(grid, epochs=20).recipe.warmup == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": -1}, "prompts=-1"),
        ({"base_lr": (0.0,)}, "base_lr"),
        ({"weight_decay": (-1.0,)}, "weight_decay"),
        ({"epochs": -1}, "epochs=-1"),
        ({"shots": 0}, "shots=0"),
    ],
)
def test_wrong_values_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LowShotVPT(dataset="colours", **options)  # type: ignore[arg-type]
