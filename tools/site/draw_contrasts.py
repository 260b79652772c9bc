"""Draw the contrasts of the small study, from the table of its page, into a picture of the site and of README.md.

Command: ``python tools/site/draw_contrasts.py``; a test compares the picture with the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results" / "stages_small.md"
PICTURE = ROOT / "docs" / "pictures" / "contrasts_small.svg"

SHOWN = {
    "`mae_wsp - wsp`": ("MAE→WSP minus WSP", "at equal WSP steps"),
    "`mae_wsp - wsp_equal_compute`": ("MAE→WSP minus longer WSP", "at equal training FLOPs"),
    "`mae_wsp - wsp_equal_time`": ("MAE→WSP minus longer WSP", "at equal wall time"),
}
"""The three contrasts of the question: does MAE first pay?"""

ROW = re.compile(
    r"^\| C?[^|]*\| (?P<contrast>`[^|]*`) \| (?P<mean>[+-][\d.]+) \| (?P<low>[+-][\d.]+) to (?P<high>[+-][\d.]+) \|"
)
WIDTH, PITCH, TOP = 720, 56, 44
LEFT, RIGHT = 270.0, 690.0
LOWEST, HIGHEST = -1.0, 4.0


@dataclass(frozen=True)
class Contrast:
    """A difference in points with its 95% interval."""

    mean: float
    low: float
    high: float


def contrasts(text: str) -> dict[str, Contrast]:
    """The contrasts of the page's table, by their names in code marks."""
    rows = [row for line in text.splitlines() if (row := ROW.match(line))]
    numbers = {row["contrast"]: Contrast(*(float(row[name]) for name in ("mean", "low", "high"))) for row in rows}
    return {name: numbers[name] for name in SHOWN}


def draw(shown: dict[str, Contrast]) -> str:
    """The picture as SVG."""
    bottom = TOP + PITCH * len(shown)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 46}" width="{WIDTH}" role="img" '
        'font-family="system-ui, sans-serif" font-size="14" fill="#222">',
        "<title>Does MAE first pay? Differences over 24 transfer tasks with 95% intervals</title>",
        f'<rect width="{WIDTH}" height="{bottom + 46}" rx="8" fill="#fff"/>',
        '<text x="20" y="26" font-weight="600">Does MAE before WSP help? Five seeds, 24 transfer tasks</text>',
    ]
    for tick in range(int(LOWEST), int(HIGHEST) + 1):
        colour = "#555" if tick == 0 else "#ddd"
        lines.append(f'<path d="M{_x(tick):.1f} {TOP}V{bottom}" stroke="{colour}"/>')
        at = f'x="{_x(tick):.1f}" y="{bottom + 18}"'
        lines.append(f'<text {at} text-anchor="middle" fill="#555">{f"{tick:+d}" if tick else 0}</text>')
    lines.append(
        f'<text x="{(LEFT + RIGHT) / 2:.1f}" y="{bottom + 37}" text-anchor="middle" fill="#555">'
        "difference in points of top-1, 95% interval</text>"
    )
    for index, (name, contrast) in enumerate(shown.items()):
        lines += _row(TOP + PITCH * (index + 0.5), SHOWN[name], contrast)
    return "\n".join([*lines, "</svg>", ""])


def _row(y: float, label: tuple[str, str], contrast: Contrast) -> list[str]:
    colour = "#00796b" if contrast.low > 0 else "#8a6d00"
    low, mean, high = _x(contrast.low), _x(contrast.mean), _x(contrast.high)
    bar = f"M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 6}v12M{high:.1f} {y - 6}v12"
    above = f'x="{mean:.1f}" y="{y - 12:.1f}" text-anchor="middle" font-size="12" fill="{colour}"'
    return [
        f'<text x="20" y="{y - 2:.1f}">{label[0]}</text>',
        f'<text x="20" y="{y + 15:.1f}" fill="#666" font-size="12">{label[1]}</text>',
        f'<path d="{bar}" stroke="{colour}" stroke-width="2.5"/>',
        f'<circle cx="{mean:.1f}" cy="{y}" r="6" fill="{colour}"/>',
        f"<text {above}>{contrast.mean:+.1f}</text>",
    ]


def _x(points: float) -> float:
    return LEFT + (RIGHT - LEFT) * (points - LOWEST) / (HIGHEST - LOWEST)


if __name__ == "__main__":
    PICTURE.write_text(draw(contrasts(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
