"""Options for the images of a run: shares drawn by a seed, and how many labels an image keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.ablations_example import make_patterns
from support.prepared_example import prepare_example
from underpaint.data.dataset import ImageData
from underpaint.data.folders.folder_dataset import FolderDataset
from underpaint.data.shards.shard_dataset import ShardDataset
from underpaint.data.shards.shard_samples import members_of


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_patterns(tmp_path_factory.mktemp("own") / "images", 120)


def rows(config: ImageData) -> set[object]:
    opened = config.open()
    if isinstance(opened, ShardDataset):
        return {(shard.shard, row) for shard, row in members_of(opened.prepared, opened.selection)}
    assert isinstance(opened, FolderDataset)
    return set(opened.rows)


@pytest.mark.parametrize("prepared", [False, True])
def test_shares_of_a_seed_are_nested_and_those_of_two_seeds_differ(
    prepared: bool, images: Path, tmp_path: Path
) -> None:
    if prepared:
        prepare_example(tmp_path / "set")
    config = ImageData(source=str(tmp_path / "set" if prepared else images))
    everything = rows(config)
    drawn = {seed: [rows(replace(config, share=share, share_seed=seed)) for share in (0.3, 0.7)] for seed in (0, 1, 2)}
    for smaller, larger in drawn.values():
        assert smaller < larger < everything
    assert len({frozenset(smaller) for smaller, _ in drawn.values()}) == 3


def test_an_image_keeps_its_rarest_labels(tmp_path: Path) -> None:
    folder = make_patterns(tmp_path / "images", 12)
    names = sorted(path.name for path in folder.glob("*.png"))
    lines = ["path,tags"]
    for number, name in enumerate(names):
        tags = ["often"] * (number > 0) + ["half"] * (number % 2) + ["seldom"] * (number < 4)
        lines.append(f"{name},{';'.join(tags)}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")
    config = ImageData(source=str(folder), targets="tags", tag_rules="words")
    whole, single = config.open(), replace(config, labels_per_image=1).open()
    assert isinstance(whole, FolderDataset)
    assert isinstance(single, FolderDataset)
    labels = whole.vocabulary.labels
    count = dict(zip(labels, whole.vocabulary.count, strict=True))
    assert single.vocabulary == whole.vocabulary
    assert max(map(len, whole.targets)) == 3
    for before, after in zip(whole.targets, single.targets, strict=True):
        rarest = min((labels[index] for index in before), key=lambda label: count[label])
        assert [labels[index] for index in after] == [rarest]


def test_a_prepared_image_keeps_its_rarest_labels(tmp_path: Path) -> None:
    prepare_example(tmp_path / "set")
    config = ImageData(source=str(tmp_path / "set"), targets="tags")
    whole, single = config.open(), replace(config, labels_per_image=1).open()
    assert isinstance(whole, ShardDataset)
    assert isinstance(single, ShardDataset)
    members = list(members_of(whole.prepared, whole.selection))
    targets = [(whole.selection.target(*member), single.selection.target(*member)) for member in members]
    assert any(len(before) > 1 for before, _ in targets)
    assert all(after == (max(before),) for before, after in targets)  # ids follow frequency, the most frequent first
    assert single.selection.longest_target(single.prepared) == 1


def test_a_negative_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"labels_per_image=-1 must be a number of labels, or 0 for all"):
        ImageData(source="openmoji", labels_per_image=-1)
