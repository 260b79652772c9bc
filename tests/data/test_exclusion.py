"""Near duplicates of evaluation images leave a prepared set: known copies, against the studies' own comparison."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from support.image_copies import COPIES, COPIES_OF_DRAWINGS, drawing, photograph
from support.image_files import encoded
from underpaint.data.folders.folder import open_folder
from underpaint.data.near_duplicates.exclusion import Exclusion, excluded_schema, write_exclusion
from underpaint.data.near_duplicates.fingerprints import fingerprint, perceptual_hash
from underpaint.data.near_duplicates.removal import DUPLICATE, near_duplicates


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))


def evaluation_set(folder: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def excluding(*folders: Path) -> Exclusion:
    target = folders[0].parent / "exclusion"
    write_exclusion(folders, target)
    return Exclusion(target)


def test_copies_are_found_per_set_and_nothing_else(tmp_path: Path) -> None:
    """Ten drawings and ten photographs in two sets; of each, one kind of copy after another, among other images."""
    drawings = evaluation_set(tmp_path / "drawings", {f"class/{seed}.png": drawing(seed) for seed in range(10)})
    photos = evaluation_set(tmp_path / "photos", {f"{seed}.png": photograph(seed) for seed in range(10)})
    exclusion = excluding(drawings, photos)
    images: dict[str, bytes] = {}
    for number, (name, copy) in enumerate(COPIES_OF_DRAWINGS.items()):
        images[f"drawing {number % 10} {name}"] = encoded(copy(drawing(number % 10)), "JPEG", quality=90)
    for number, (name, copy) in enumerate(COPIES.items()):
        images[f"photo {number % 10} {name}"] = encoded(copy(photograph(number % 10)), "JPEG", quality=90)
    copies = len(images)
    for seed in range(50, 70):
        images[f"another {seed}"] = encoded(drawing(seed) if seed % 2 else photograph(seed), "JPEG", quality=90)
    keys = list(images)
    halves = [exclusion.find(some, fingerprint([images[key] for key in some])) for some in (keys[:13], keys[13:])]
    found = pa.concat_tables(halves)
    assert found.schema == excluded_schema()
    for row in found.to_pylist():
        kind, seed, _ = row["key"].split(" ", 2)
        assert (row["set"], row["path"]) == (
            ("drawings", f"class/{seed}.png") if kind == "drawing" else ("photos", f"{seed}.png")
        )
        assert row["difference"] <= DUPLICATE
        assert row["mirrored"] == (("mirrored" in row["key"]) or ("all of it" in row["key"]))
    assert copies - len(found) <= 1
    counted = {one.name: one for one in exclusion.count(found)}
    assert list(counted) == ["drawings", "photos"]
    for name, kind in (("drawings", "drawing"), ("photos", "photo")):
        keys_found = {row["key"] for row in found.to_pylist() if row["key"].startswith(kind)}
        assert asdict(counted[name]) == {
            "name": name,
            "images": 10,
            "unreadable_or_flat": 0,
            "duplicated": len({key.split()[1] for key in keys_found}),
            "removed": len(keys_found),
        }


def test_finds_what_a_study_finds(tmp_path: Path) -> None:
    """The same pairs, distances and differences as from files (PNG: nothing is decoded at a reduced size)."""
    originals = {f"{seed}.png": drawing(seed) for seed in range(8)}
    test = evaluation_set(tmp_path / "test", originals)
    copies = {f"{name}-{place}.png": copy(drawing(place)) for place, (name, copy) in enumerate(COPIES.items())}
    train = evaluation_set(tmp_path / "train", {name.replace(" ", "_"): image for name, image in copies.items()})
    pairs = near_duplicates(open_folder(train, tags="", labels=""), open_folder(test, tags="", labels=""))
    expected = {(p.path, p.test_path, p.distance, np.float32(p.difference)) for p in pairs if p.is_duplicate}
    files = sorted(train.iterdir())
    found = excluding(test).find([file.name for file in files], fingerprint([file.read_bytes() for file in files]))
    assert {
        (row["key"], row["path"], row["distance"], np.float32(row["difference"])) for row in found.to_pylist()
    } == expected
    assert len(expected) >= 6


def test_large_jpegs_are_decoded_small_for_the_same_hash() -> None:
    large = photograph(3).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=90)
    looks = fingerprint([data])
    expected = perceptual_hash(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) @ [0.299, 0.587, 0.114])
    (bits,) = looks.hashes()
    assert bits is not None
    assert (bits ^ expected).bit_count() <= 2


def test_what_cannot_be_read_or_is_flat_has_no_hash_and_no_duplicate(tmp_path: Path) -> None:
    folder = evaluation_set(tmp_path / "set", {"flat.png": Image.new("RGB", (40, 40), "red"), "a.png": drawing(0)})
    (folder / "empty.jpg").touch()
    (folder / "damaged.jpg").write_bytes(encoded(drawing(1), "JPEG", quality=90)[:300])
    exclusion = excluding(folder)
    looks = fingerprint([b"", encoded(Image.new("RGB", (40, 40), "red")), encoded(drawing(0))])
    assert [bits is None for bits in looks.hashes()] == [True, True, False]
    assert [bool(problem) for problem in looks.problems] == [True, False, False]
    found = exclusion.find(["empty", "flat", "copy"], looks)
    assert found["key"].to_pylist() == ["copy"]
    (counted,) = exclusion.count(found)
    assert (counted.images, counted.unreadable_or_flat) == (4, 3)


def test_nothing_is_found_among_no_images(tmp_path: Path) -> None:
    exclusion = excluding(evaluation_set(tmp_path / "set", {"a.png": drawing(0)}))
    found = exclusion.find([], fingerprint([]))
    assert found.num_rows == 0
    assert exclusion.count(found)[0].removed == 0


def test_what_cannot_be_excluded_is_said(tmp_path: Path) -> None:
    first = evaluation_set(tmp_path / "one" / "set", {"a.png": drawing(0)})
    second = evaluation_set(tmp_path / "two" / "set", {"a.png": drawing(0)})
    with pytest.raises(ValueError, match="one name"):
        write_exclusion([first, second], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images"):
        write_exclusion([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ValueError, match="not a folder"):
        write_exclusion([tmp_path / "absent"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exclusion = tmp_path / "exclusion"
    write_exclusion([first], exclusion)
    np.save(exclusion / "pixels.npy", np.zeros((5, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match="damaged"):
        Exclusion(exclusion)
