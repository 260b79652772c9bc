"""The remark about images that could not be read."""

from __future__ import annotations

from underpaint.evals.unreadable import unreadable_images


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
