"""How the quality of the rules for tags is scored: kappa against scikit-learn, counts by hand."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sklearn.metrics import cohen_kappa_score

TOOL = Path(__file__).resolve().parents[2] / "tools" / "score_tags.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_tags", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_kappa_is_that_of_scikit_learn(tool: ModuleType) -> None:
    rng = random.Random(0)
    first = rng.choices(tool.KINDS, (1, 5, 4), k=300)
    second = [one if rng.random() < 0.8 else rng.choice(tool.KINDS) for one in first]
    assert tool.kappa(zip(first, second, strict=True)) == pytest.approx(cohen_kappa_score(first, second))


@pytest.mark.parametrize(
    ("given", "answers", "right"),
    [
        ("n02084071", ("drop", "n02084071"), True),
        ("n02084071", ("n02084072",), False),
        ("text:gayprideflag", ("text:gay pride-flag",), True),
        ("text:bigfirework", ("text:big fireworks",), True),
        ("text:bigfireworks", ("text:big firework",), False),
        ("text:stickman", ("text:stickmen",), True),
        ("drop", ("text:x",), False),
        ("drop", ("text:x", "drop"), True),
    ],
)
def test_what_is_right(tool: ModuleType, given: str, answers: tuple[str, ...], right: bool) -> None:
    assert tool.is_right(given, answers) == right


def test_precision_and_recall_by_hand(tool: ModuleType) -> None:
    """Of three labelled two are right; of four that should be labelled three count, one as a drop that is right too."""
    pairs = [
        ("n1", ("n1",)),
        ("n2", ("n3",)),
        ("text:a", ("text:a", "drop")),
        ("drop", ("text:b", "drop")),
        ("drop", ("drop",)),
    ]
    score = tool.score(pairs)
    assert (score.labelled, score.labelled_right, score.wanted, score.wanted_right) == (3, 2, 4, 3)


def test_the_open_half_scores_well(tool: ModuleType) -> None:
    """Quality on the half that was open while the rules were written; the other one is scored once, not here."""
    tags = tool.read("open")
    assert len(tags) == 280
    canonicaliser = tool.Canonicaliser(tool.TagRules())
    score = tool.score((tool.answer(canonicaliser.decide(one.tag)), one.both) for one in tags)
    assert score.labelled_right / score.labelled >= 0.93
    assert score.wanted_right / score.wanted >= 0.93
