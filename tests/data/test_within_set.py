"""Near copies within one set against all pairs compared one by one, and bounded work where all images are alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from support.all_pairs import all_near_copies, near_pair, some_views
from support.image_copies import COPIES, COPIES_OF_DRAWINGS, drawing, photograph
from support.image_files import encoded
from underpaint.data.near_duplicates import within_set
from underpaint.data.near_duplicates.fingerprints import (
    PACKED_BYTES,
    Fingerprints,
    PerceptualHashes,
    Views,
    fingerprint,
)
from underpaint.data.near_duplicates.within_set import near_copies, near_families


@pytest.fixture(scope="module")
def pictures() -> Fingerprints:
    """Copies of all kinds of some pictures, others between them, one flat and one unreadable, in mixed order."""
    images = [encoded(copy(drawing(n % 4)), "JPEG") for n, copy in enumerate(COPIES_OF_DRAWINGS.values())]
    images += [encoded(copy(photograph(n % 3)), "JPEG") for n, copy in enumerate(COPIES.values())]
    images += [encoded(photograph(n)) for n in range(9)] + [encoded(drawing(n)) for n in range(9)]
    images += [burst_frame(shift) for shift in range(0, 30, 3)]
    images += [encoded(Image.new("RGB", (40, 40), "teal")), b"no image"]
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    return fingerprint([images[place] for place in order])


def burst_frame(shift: int) -> bytes:
    """A camera that turns: neighbours are near copies, the first and the last are not."""
    wide = photograph(99).resize((200, 128))
    return encoded(wide.crop((shift, 0, shift + 128, 128)))


@pytest.mark.parametrize("block", [1, 5, 16, 256])
def test_finds_what_all_pairs_give_whatever_the_block(
    pictures: Fingerprints, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(within_set, "BLOCK", block)
    monkeypatch.setattr(within_set, "MAX_VIEWS", 3)
    opened: list[int] = []

    def read(rows: list[int]) -> Views:
        opened.extend(rows)
        return some_views(pictures.views, rows)

    copies = list(near_copies(pictures.prints, read))
    assert sorted(copies, key=lambda copy: copy.row) == all_near_copies(pictures)
    assert len(copies) > 15
    assert pictures.problems.index("it is not an image of a known format") not in opened


def test_a_burst_keeps_images_that_no_kept_one_is_near_to() -> None:
    """A chain of small steps: not all of it goes with its first frame."""
    frames = fingerprint([burst_frame(shift) for shift in range(0, 72, 3)])
    copies = {copy.row: copy.kept for copy in near_copies(frames.prints, lambda rows: some_views(frames.views, rows))}
    kept = set(range(24)) - copies.keys()
    assert 2 <= len(kept) <= 12
    assert set(copies.values()) <= kept


def test_many_frames_of_one_scene_are_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 copies have 45,000 pairs; each is compared with the one that is kept, and some within a block."""
    frame = fingerprint([burst_frame(0)])
    rows = np.zeros(300, dtype=np.int64)
    compared = 0
    original = within_set.differences

    def count(*given: object, **known: object) -> np.ndarray:
        nonlocal compared
        compared += len(given[2])  # type: ignore[arg-type]
        return original(*given, **known)  # type: ignore[arg-type]

    monkeypatch.setattr(within_set, "differences", count)
    monkeypatch.setattr(within_set, "BLOCK", 32)
    copies = list(near_copies(frame.prints.at(rows), lambda some: some_views(frame.views, [0] * len(some))))
    assert [copy.row for copy in copies] == list(range(1, 300))
    assert {copy.kept for copy in copies} == {0}
    assert compared < 300 + 32 * 32


@pytest.mark.parametrize("block", [5, 256])
def test_families_are_what_near_pairs_connect(
    pictures: Fingerprints, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(within_set, "BLOCK", block)
    count = len(pictures.problems)
    pairs = [(row, kept) for row in range(count) for kept in range(row) if near_pair(pictures, row, kept)]
    graph = coo_array((np.ones(len(pairs)), np.array(pairs).T), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    expected = [component.tolist().index(number) for number in component]
    families = near_families(pictures.prints, lambda rows: some_views(pictures.views, rows))
    assert families.tolist() == expected
    assert max(np.bincount(families)) >= 10, "a burst is one family"


def test_a_family_of_many_is_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = fingerprint([burst_frame(0)])
    compared = 0
    original = within_set.differences

    def count(*given: object, **known: object) -> np.ndarray:
        nonlocal compared
        compared += len(given[2])  # type: ignore[arg-type]
        return original(*given, **known)  # type: ignore[arg-type]

    monkeypatch.setattr(within_set, "differences", count)
    monkeypatch.setattr(within_set, "BLOCK", 32)
    prints = frame.prints.at(np.zeros(300, dtype=np.int64))
    families = near_families(prints, lambda some: some_views(frame.views, [0] * len(some)))
    assert not families.any()
    assert compared < 300 + 10 * 32


def test_hashes_are_packed_and_unpacked(pictures: Fingerprints) -> None:
    packed = pictures.prints.packed()
    assert {len(one) for one in packed} == {PACKED_BYTES} == {147}
    again = PerceptualHashes.unpacked(b"".join(packed))
    for name in ("plain", "mirrored", "flat", "fields"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pictures.prints, name))
    assert PerceptualHashes.unpacked(b"").plain.shape == (0, 3)
