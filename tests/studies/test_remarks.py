"""Remarks of a study: each said once, with its task and, where it is not said of all, of whom."""

from __future__ import annotations

from underpaint.evals.score import Score
from underpaint.studies.remarks import Remarks


def score(dataset: str, protocol: str, *remarks: str, shots: int = 0, split: str = "test") -> Score:
    names = ("a.png",)
    told = {"correct": (1.0,), "image": names, "family": names, "settings": {}, "remarks": remarks}
    return Score(dataset=dataset, protocol=protocol, shots=shots, split=split, **told)


def test_a_remark_says_of_what_and_of_whom() -> None:
    remarks = Remarks()
    short, unread = "2 of 9 classes have fewer than 5 training images", "3 of 40 test images could not be read"
    for arm in ("mae", "wsp", "mae_wsp"):
        for _seed in (0, 1):
            few = [score("digits", "lowshot", short, shots=5, split=split) for split in ("0", "1", "mean")]
            remarks.add(arm, [score("photos", "linear", unread), *few])
        remarks.add(arm, [score("photos", "knn", *(["did not converge"] if arm == "wsp" else []))])
    assert remarks.lines() == [
        f"digits 5-shot: {short}",
        "photos knn: did not converge (wsp)",
        f"photos linear: {unread}",
    ]


def test_of_many_encoders_some_are_named() -> None:
    remarks = Remarks()
    for number in range(9):
        remarks.add(f"run{number}", [score("photos", "knn", *(["odd"] if number else []))])
    assert remarks.lines() == ["photos knn: odd (run1, run2, run3, run4 and 4 more)"]
