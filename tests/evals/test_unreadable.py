"""The remark about images that could not be read."""

from __future__ import annotations

import torch

from underpaint.data.source import Source
from underpaint.evals.knn import Knn
from underpaint.evals.transfer import transfer
from underpaint.evals.unreadable import unreadable_images
from underpaint.models.vit import ViT


def test_all_are_counted_and_the_first_named() -> None:
    assert unreadable_images([], total=9, what="test") == []
    some = ["a.png", "b'\n.png"]
    assert unreadable_images(some, total=9, what="train") == [
        "2 of 9 train images could not be read: 'a.png', \"b'\\n.png\""
    ]
    (wrong,) = unreadable_images(some[:1], total=9, what="test", wrong=True)
    assert wrong == "1 of 9 test images could not be read and count as wrong: 'a.png'"
    many = [f"{number}.png" for number in range(5)]
    assert unreadable_images(many, total=5, what="test") == [
        "5 of 5 test images could not be read: such as '0.png', '1.png', '2.png'"
    ]


def test_a_class_without_a_readable_training_image_is_named(source: Source, encoder: ViT) -> None:
    """Its test images are all wrong, whatever the encoder is worth."""
    for row in source.rows("train"):
        if source.label[row] == "red":
            (source.root / source.path[row]).write_bytes(b"no image")
    knn = Knn(dataset="colours", k=1)
    (score,) = transfer(encoder, source, protocols=[knn], seed=0, device=torch.device("cpu"))
    tested = sum(source.label[row] == "red" for row in source.rows("test"))
    assert any(f"no readable training image has, and count as wrong: 'red' ({tested} image" in each
               for each in score.remarks)  # fmt: skip
