"""A sentence on how the evaluations of a study showed the images to the encoder."""

from __future__ import annotations

from collections.abc import Sequence

from underpaint.results.study import COMPARED_SPLITS, ScoreRow

VIEWS = {
    "crop_oblong": "square images whole, of others the centre, their short side 256/224 of the encoder's size",
    "crop": "the centre of every image",
    "stretch": "the whole image, stretched to the encoder's size",
}
"""Views in words, in the order in which a sentence names them."""
PROTOCOLS = {"linear": "linear", "lowshot": "low-shot", "knn": "kNN", "finetune": "finetuned"}


def views_shown(rows: Sequence[ScoreRow]) -> str:
    """Sentence on the view of each protocol; "" for results that do not record it."""
    protocols: dict[str, list[str]] = {}
    for row in rows:
        view = row.get("view", "").partition("@")[0]
        name, known = PROTOCOLS.get(row["protocol"], row["protocol"]), protocols.setdefault(view, [])
        if row["split"] in COMPARED_SPLITS and name not in known:
            known.append(name)
    shown = [f"{', '.join(protocols[view])}: {text}" for view, text in VIEWS.items() if protocols.get(view)]
    return f"Shown to the encoder: {'; '.join(shown)}." if shown else ""
