"""What people see of a long step."""

from __future__ import annotations

import io
import re

import pytest

from underpaint.messages import duration, one_line
from underpaint.progress import Progress, progress


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr("underpaint.progress.time.monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_ten_seconds_with_the_time_left(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("mae", total=3_000, unit="images", done=1_000) as shown:
        for seconds, done in ((4.0, 1_400), (20.0, 2_000), (29.0, 2_600), (40.0, 3_000)):
            now[0] = 100.0 + seconds
            shown.update(done, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "mae: 2,000/3,000 images  loss 0.5  20 s left",
        "mae: 3,000/3,000 images  loss 0.5  0.0 s left",
    ]


def test_the_end_is_said_where_a_line_was_said_before(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("reading", total=3, unit="partitions") as shown:
        for seconds in (11, 13, 15):
            now[0] = 100.0 + seconds
            shown.update(seconds // 2 - 4)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 1/3 partitions  22 s left",
        "reading: 3/3 partitions  0.0 s left",
    ]


def test_a_step_that_is_over_at_once_says_nothing(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress("abc", "drawing", total=3, unit="drawings")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_no_line(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for letter in progress("abcd", "[mae]", total=4, unit="images"):
        now[0] += 8.0 if letter == "a" else 4.0
    drawn = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())) if line]
    assert all(line.startswith("[mae] ━") for line in drawn)
    assert [" ".join(re.sub("[━╸╺]+", "", line).split()) for line in dict.fromkeys(drawn)] == [
        "[mae] 0/4 images ? left",
        "[mae] 1/4 images 24 s left",
        "[mae] 2/4 images 12 s left",
        "[mae] 3/4 images 5.3 s left",
        "[mae] 4/4 images 0.0 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (1.46, "1.5 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (172_799, "47 h 59 min"),
        (360_000, "4.2 days"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\x1b[2J.jpg", r"a\nb\x1b[2J.jpg"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("odd\udcff", r"odd\udcff"),
        ("مرحبا \U0001f469\u200d\U0001f33e Möwe 'x'", "مرحبا \U0001f469\u200d\U0001f33e Möwe 'x'"),
    ],
)
def test_a_name_is_one_line_and_no_command_of_a_terminal(name: str, shown: str) -> None:
    assert one_line(name) == shown
