"""The paper's 19 claims as checks with thresholds, stated before any result is read (docs/paper.md, section 4).

``VERSION`` is raised with every change of a check or threshold; ``claims.json`` names the version that judged it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from underpaint.results.claims import Rule

VERSION = 1
POINT = 0.01
"""A percentage point of accuracy."""

Source = Literal["summary", "protocol_summary", "tag_summary", "trends"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A line of a study's results, and where its interval must lie for the claim to hold."""

    study: str
    what: str
    line: str  # the contrast, or the trend
    source: Source = "summary"
    of: str = "mean over tasks"  # the task, protocol or bin of the line; "" is the mean over all tasks of a trend
    rule: Rule = "above"
    threshold: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim holds if all of its checks hold, and fails if one fails; without checks it is not measured."""

    name: str
    text: str
    anchor: str
    checks: tuple[Check, ...] = ()
    note: str = ""


_GAIN = Check(study="stages", what="MAE→WSP − WSP at equal WSP steps, all tasks", line="mae_wsp - wsp")
_NO_DETECTION = "no study here has a task of detection, segmentation or motion"

CLAIMS = (
    Claim(
        name="C1",
        text="MAE before WSP helps at equal WSP steps",
        anchor="+1.1 linear, +2.2 5-shot, +1.2 finetuned (ViT-L)",
        checks=(_GAIN,),
    ),
    Claim(
        name="C2",
        text="It helps at equal training compute too",
        anchor="up to half the FLOPs (ViT-B)",
        checks=(
            Check(
                study="stages",
                what="MAE→WSP − WSP lengthened to the same FLOPs, all tasks",
                line="mae_wsp - wsp_equal_compute",
            ),
        ),
    ),
    Claim(
        name="C3",
        text="WSP converges faster after MAE",
        anchor="large gain at few epochs of WSP",
        checks=(
            Check(study="stages", what="MAE, then half of WSP − all of WSP, all tasks", line="mae_wsp_half - wsp"),
        ),
    ),
    Claim(
        name="C4",
        text="A little MAE is enough, and more saturates",
        anchor="0.1 epoch helps, flat after 1",
        checks=(
            Check(study="stages", what="a tenth of MAE, then WSP − WSP, all tasks", line="mae_tenth_wsp - wsp"),
            Check(
                study="convergence",
                what="twice the MAE − MAE, both before WSP, all tasks",
                line="mae2_wsp1 - mae1_wsp1",
                rule="within",
                threshold=POINT,
            ),
        ),
    ),
    Claim(
        name="C5",
        text="The gain does not vanish with longer WSP",
        anchor="still there at 20 billion samples",
        checks=(
            Check(study="convergence", what="MAE→WSP − WSP at four times the WSP, all tasks", line="mae1_wsp4 - wsp4"),
        ),
    ),
    Claim(
        name="C6",
        text="The gain holds and grows with the size of the model",
        anchor="86M to 2B parameters",
        checks=(
            Check(
                study="scaling",
                what="slope of MAE→WSP − WSP along parameters, all tasks",
                source="trends",
                line="gain_by_size",
                of="",
            ),
        ),
    ),
    Claim(
        name="C7",
        text="A smaller model after MAE beats a larger one without",
        anchor="2B after MAE above 6.5B of WSP alone, linear",
        checks=(
            Check(
                study="scaling",
                what="MAE→WSP − WSP of the next larger model, linear, largest pair",
                source="trends",
                line="smaller_after_mae",
                of="linear",
            ),
        ),
        note="The next larger model of the size `small` has four times the parameters; the paper's has 3.4 times.",
    ),
    Claim(
        name="C8",
        text="MAE scales with data, larger models more",
        anchor="+0.2 L, +0.5 H, +0.4 2B finetuned, −0.1 B",
        checks=(
            Check(
                study="scaling",
                what="MAE on all images − on the fewest, finetuned, mean over models",
                source="trends",
                line="mae_data",
                of="finetune",
            ),
            Check(
                study="scaling",
                what="slope of this difference along parameters",
                source="trends",
                line="mae_data_by_size",
                of="finetune",
            ),
        ),
        note="Samples are equal here; the paper compares 2 billion views of 1.3 million images with 5 billion views.",
    ),
    Claim(
        name="C9",
        text="MAE alone is weak without finetuning",
        anchor="more than 10 points below WSP, linear and low-shot",
        checks=tuple(
            Check(
                study="stages",
                what=f"WSP − MAE, {name}",
                source="protocol_summary",
                line="wsp - mae",
                of=protocol,
                threshold=10 * POINT,
            )
            for protocol, name in (("linear", "linear"), ("lowshot", "low-shot"))
        ),
    ),
    Claim(
        name="C10",
        text="MAE alone is strong on dense and motion tasks",
        anchor="COCO 58.0 vs 54.9, SSv2 73.8 vs 69.8",
        note=_NO_DETECTION,
    ),
    Claim(name="C11", text="MAE→WSP does not beat MAE on COCO", anchor="57.3 vs 58.0", note=_NO_DETECTION),
    Claim(name="C12", text="WSP alone does not scale on detection", anchor="Figure 7", note=_NO_DETECTION),
    Claim(
        name="C13",
        text="MAE→WSP is above WSP in every bin of frequency",
        anchor="Figure 8, LVIS",
        checks=tuple(
            Check(
                study="stages",
                what=f"MAE→WSP − WSP, recall of held-out tags, {name}",
                source="tag_summary",
                line="mae_wsp - wsp",
                of=name,
            )
            for name in ("head", "middle", "tail")
        ),
        note="A stand-in for the paper's bins of detection: tags of held-out images by frequency.",
    ),
    Claim(
        name="C14",
        text="The source of MAE's images hardly matters",
        anchor="MAE on ImageNet-1k is as effective",
        checks=(
            Check(
                study="scaling",
                what="MAE on another collection − on the images of WSP, both before WSP, all tasks",
                line="swapped_mae_wsp - mae_wsp",
                rule="within",
                threshold=POINT,
            ),
            Check(
                study="scaling",
                what="MAE on another collection, then WSP − WSP alone, all tasks",
                line="swapped_mae_wsp - wsp",
            ),
        ),
    ),
    Claim(
        name="C15",
        text="It works with a single label per image",
        anchor="Figure 6, ImageNet-21k",
        checks=(
            Check(
                study="scaling",
                what="MAE→WSP − WSP, one label per image, all tasks",
                line="single_mae_wsp - single_wsp",
            ),
        ),
        note="The rarest label of each image; the labels are not cleaner for it.",
    ),
    Claim(
        name="C16",
        text="WSP after MAE needs no other recipe",
        anchor="section 4.1",
        checks=(_GAIN,),
        note="The recipe of WSP was tuned for WSP alone, and is the same in both arms.",
    ),
    Claim(
        name="C17",
        text="Gains on shifted test sets exceed those on ImageNet",
        anchor="+3.1 ObjectNet, +0.7 ImageNet (ViT-H)",
        note="no study here has a shifted test set of its own classes",
    ),
    Claim(
        name="C18",
        text="Prompt tuning is at least a linear classifier in low-shot",
        anchor="section 4.4",
        note="prompt tuning is not implemented",
    ),
    Claim(
        name="C19",
        text="Zero-shot on ImageNet and on Food-101 hardly correlate",
        anchor="Table 5",
        note="no study here is measured zero-shot",
    ),
)
