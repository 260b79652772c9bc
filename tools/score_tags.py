"""Score ``underpaint.tags`` on the annotated sample, as ``tests/tools/tags/GUIDELINE.md`` says.

    python tools/score_tags.py open
    python tools/score_tags.py locked        once, at the end

The right answers of a tag are those of both annotators. If the two have none in common, ``settled.csv`` gives the right
one by the guideline, or both count: whoever wrote the rules settles nothing of the locked half. For comparison, the
scores by each annotator alone and on the tags with a common answer are printed as well.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from underpaint.tags.canonical import Canonicaliser, Decision, TagRules
from underpaint.tags.normalise import squeeze

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "tools" / "tags"
KINDS = ("drop", "synset", "text")
PLURALS = (("s", ""), ("es", ""), ("ies", "y"), ("men", "man"))


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One tag of the sample with both annotations; answers are the best first."""

    tag: str
    source: str
    band: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    settled: tuple[str, ...]
    """Empty where the annotators' answers stand."""

    @property
    def both(self) -> tuple[str, ...]:
        return self.settled or tuple(dict.fromkeys((*self.a, *self.b)))

    @property
    def agreed(self) -> bool:
        """Whether the annotators have an answer in common; words are compared without blanks."""
        return not {_plain(one) for one in self.a}.isdisjoint(_plain(one) for one in self.b)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Counts behind precision and recall."""

    labelled: int
    labelled_right: int
    wanted: int
    wanted_right: int

    def __str__(self) -> str:
        return (
            f"precision {self.labelled_right / self.labelled:.3f} ({self.labelled_right} of {self.labelled}), "
            f"recall {self.wanted_right / self.wanted:.3f} ({self.wanted_right} of {self.wanted})"
        )


def read(half: str) -> list[Tag]:
    """The tags of one half; of the other half no answer is looked at."""
    rows = [row for row in _rows("sample.csv") if row["half"] == half]
    ids = {row["id"] for row in rows}
    a, b, settled = (
        {row["id"]: tuple(row["answer"].split("|")) for row in _rows(f"{name}.csv") if row["id"] in ids}
        for name in ("annotator_a", "annotator_b", "settled")
    )
    return [
        Tag(
            tag=row["tag"],
            source=row["source"],
            band=row["band"],
            a=a[row["id"]],
            b=b[row["id"]],
            settled=settled.get(row["id"], ()),
        )
        for row in rows
    ]


def answer(decision: Decision) -> str:
    """The program's answer in the annotators' terms."""
    return "drop" if decision.kind == "drop" else decision.key


def is_right(given: str, answers: Iterable[str]) -> bool:
    """Whether an answer is among the right ones; of an English plural the singular is right as well."""
    return any(
        given == right or (right.startswith("text:") and given in _singulars(right)) for right in map(_plain, answers)
    )


def score(pairs: Iterable[tuple[str, tuple[str, ...]]]) -> Score:
    """Precision over the tags that are labelled, recall over those whose best answer is not ``drop``."""
    told = [(given, answers, is_right(given, answers)) for given, answers in pairs]
    labelled = [right for given, _, right in told if given != "drop"]
    wanted = [right for _, answers, right in told if answers[0] != "drop"]
    return Score(labelled=len(labelled), labelled_right=sum(labelled), wanted=len(wanted), wanted_right=sum(wanted))


def kappa(pairs: Iterable[tuple[str, str]]) -> float:
    """Cohen's kappa of two raters."""
    rated = list(pairs)
    observed = sum(one == other for one, other in rated) / len(rated)
    first, second = zip(*rated, strict=True)
    chance = sum(first.count(kind) * second.count(kind) for kind in KINDS) / len(rated) ** 2
    return (observed - chance) / (1 - chance)


def kind(one: str) -> str:
    return "drop" if one == "drop" else "text" if one.startswith("text:") else "synset"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("half", choices=("open", "locked"))
    half = parser.parse_args().half
    tags = read(half)
    canonicaliser = Canonicaliser(TagRules())
    decisions = [canonicaliser.decide(one.tag) for one in tags]
    given = [answer(decision) for decision in decisions]
    agreed = [one.agreed for one in tags]
    print(f"{half}: {len(tags)} tags, kappa {kappa((kind(one.a[0]), kind(one.b[0])) for one in tags):.3f} of the kind")
    print(f"an answer in common: {sum(agreed)} ({sum(agreed) / len(tags):.3f})")
    print(f"settled:           {score(zip(given, (one.both for one in tags), strict=True))}")
    print(f"by a alone:        {score(zip(given, (one.a for one in tags), strict=True))}")
    print(f"by b alone:        {score(zip(given, (one.b for one in tags), strict=True))}")
    print(f"where they agree:  {score((g, one.both) for g, one in zip(given, tags, strict=True) if one.agreed)}")
    print("errors, by the settled answers:")
    for one, said, decision in zip(tags, given, decisions, strict=True):
        if not is_right(said, one.both):
            print(f"| `{one.tag}` | {one.source}, {one.band} | {said} ({decision.reason}) | {', '.join(one.both)} |")


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _plain(one: str) -> str:
    return f"text:{squeeze(one.removeprefix('text:'))}" if one.startswith("text:") else one


def _singulars(right: str) -> set[str]:
    return {right.removesuffix(ending) + base for ending, base in PLURALS if right.endswith(ending)}


if __name__ == "__main__":
    main()
