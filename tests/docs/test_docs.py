"""The commands that the pages and the help show: each parses, and each override is a field that takes the value."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from support.shown_commands import PAGES, all_commands, shell
from underpaint import config, recipes, verbs
from underpaint.cli.main import main
from underpaint.cli.parser import parse
from underpaint.fitted_recipes import STAGES

COMMANDS = sorted(set(all_commands()))

FIRST_README = """\
make demo
underpaint study stages --images ./photos --tags tags.csv --labels labels.csv --plan
underpaint study stages --images ./photos --tags tags.csv --labels labels.csv --out runs/photos
pip install '.[prepare]'
underpaint prepare ./photos posts.csv ./img2dataset_shards --out sets/mine --vocabulary-size 5000 --mapping mine.csv
underpaint train wsp_vit_b16 data=sets/mine --out runs/wsp
underpaint list
underpaint list --source mae_vit_b16
underpaint train mae_laptop data.source=./photos --out runs/mae
underpaint train wsp_laptop data.source=./photos data.tags=tags.csv init_from=runs/mae --out runs/mae_wsp
underpaint train mae_vit_b16 data.source=./photos optim.base_lr=1e-4 --dry-run
underpaint eval linear runs/mae_wsp dataset=digits
underpaint report runs/mae_wsp
underpaint embed runs/mae_wsp ./photos --out features.parquet
underpaint predict runs/mae_wsp ./photos --top 3
underpaint import mae_pretrain_vit_base.pth --out weights/mae_vit_b16
underpaint train wsp_vit_b16 data.source=./photos data.tags=tags.csv init_from=weights/mae_vit_b16 --out runs/wsp
underpaint export runs/mae_wsp --to timm --out exported/timm
underpaint import vit_b16_xlmr_b.pt tokenizer=xlmr.sentencepiece.bpe.model --out weights/maws_clip
underpaint predict weights/maws_clip ./photos --labels names.txt
underpaint plan --calibrate
underpaint plan mae_vit_l16 --gpus 64 --device h100 --price 2.5
"""
"""Every command that README.md showed before the site took them over."""


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 20
    assert {where for where, _ in COMMANDS} >= {"README.md", "docs/extend.md", "train", "study"}


@pytest.mark.parametrize("command", FIRST_README.splitlines())
def test_what_the_first_readme_showed_stands_on_a_page(command: str) -> None:
    lines = {line.partition("  #")[0].strip() for page in PAGES for line in shell(page).splitlines()}
    assert command in lines


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[f"{where}: {command}" for where, command in COMMANDS])
def test_a_shown_command_is_one(where: str, command: str) -> None:
    options = parse(shlex.split(command, comments=True)[1:])
    own = ":" in getattr(options, "recipe", "") or ":" in getattr(options, "evaluation", "")
    if own:  # built by test_extend
        return
    if options.verb == "train" and options.recipe in ("", *STAGES):
        assert options.data or options.config
    elif options.verb == "train":
        assert config.override(recipes.find_recipe(options.recipe)(), options.overrides)
    elif options.verb == "eval":
        assert config.override(verbs.EVALUATIONS[options.evaluation](dataset="digits"), options.overrides)
    elif options.verb == "study":
        assert options.study in verbs.TABLES or verbs.study_name(options.study) in verbs.STUDIES
    elif options.verb == "list" and options.source:
        assert recipes.find_recipe(options.source)


READS_A_RUN = ("eval", "embed", "predict", "search", "export", "import", "report")


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=[f"{where}: {command}" for where, command in COMMANDS])
def test_a_shown_command_starts_or_says_what_is_missing(
    where: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In an empty folder: runs are planned as far as nothing is read; the others name a path that is not there."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)[1:]
    options = parse(words)
    if ":" in getattr(options, "recipe", "") or ":" in getattr(options, "evaluation", ""):
        return
    if options.verb == "train" and options.recipe not in ("", *STAGES):
        assert main([*words, "--plan"]) == 0, capsys.readouterr().err
    elif options.verb == "plan" and options.recipe and options.device != "cpu":
        assert main(words) == 0 or "; what would fit: " in capsys.readouterr().err
    elif options.verb in READS_A_RUN:
        assert main(words) == 2
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("underpaint: "))
        assert any(word.removeprefix("./") in line for word in words[1:]), line
