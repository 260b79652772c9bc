"""All proposals about the labels of a prepared set."""

from __future__ import annotations

from pathlib import Path

from underpaint.tag_doctor.contexts import Contexts
from underpaint.tag_doctor.head import read_head
from underpaint.tag_doctor.implications import implications
from underpaint.tag_doctor.labelled_set import LabelledSet
from underpaint.tag_doctor.merges import merges
from underpaint.tag_doctor.proposal import KINDS, Proposal
from underpaint.tag_doctor.unclear import dead_labels, splits


def examine(labelled: LabelledSet, run: Path | None = None) -> list[Proposal]:
    """Proposals by kind, the likeliest first, with the head of a finished ``run`` as further evidence.

    Raises:
        ValueError: if the run is not one of labels of this set.
    """
    head = read_head(run, labelled.names) if run else None
    contexts = Contexts(labelled)
    merged = list(merges(labelled, contexts, head))
    pairs = {pair for each in merged for pair in ((each.source, each.target), (each.target, each.source))}
    proposals = [
        *merged,
        *implications(labelled, contexts, pairs),
        *splits(labelled, contexts),
        *dead_labels(labelled, contexts),
    ]
    return sorted(proposals, key=lambda each: (KINDS.index(each.kind), -each.score, each.source, each.target))
