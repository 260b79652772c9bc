"""The comparison with other tools: equal losses first, then steps that train, and a table that tells what failed."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers_steps

    return peers_steps


@pytest.fixture
def peers(steps: ModuleType) -> ModuleType:
    import peers

    return peers


@pytest.mark.parametrize("name", ["transformers", "timm"])
def test_a_peer_has_our_loss_on_the_same_weights(name: str, steps: ModuleType) -> None:
    found = steps.check(name, steps.SIZES["smoke"])
    assert found["theirs"] > 0.5
    assert found["ours"] == pytest.approx(found["theirs"], rel=1e-5)


@pytest.mark.parametrize("variant", ["shipped", "bf16"])
@pytest.mark.parametrize("name", ["ours", "ours-wsp", "transformers", "timm"])
def test_the_steps_that_are_timed_train(name: str, variant: str, steps: ModuleType) -> None:
    size = steps.SIZES["smoke"]
    if name.startswith("ours"):
        network, optimizer, more = steps.our_steps("wsp" if "wsp" in name else "mae", size, 4, variant=variant)
    else:
        network, optimizer, more = steps.peer_steps(name, size, 4, variant=variant)
    before = [value.detach().clone() for value in network.parameters()]
    more(1)
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    assert all(optimizer.state[p] for p in trained)
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(trained)
    assert steps.allocated(more) > 1000


def rows_of(peers: ModuleType) -> list[Any]:
    """Two rounds; the second beside twice the load, which hits all alike."""
    speeds = {
        ("ours", "bf16"): 12.0,
        ("transformers", "bf16"): 6.0,
        ("lightly", "bf16"): 8.0,
        ("lightly", "shipped"): 4,
    }
    return [
        peers.Row("mae", *key, medians=[rate, rate / 2], shares=[0.5, 0.5], memory=[rate, rate], resident=[9, 9])
        for key, rate in speeds.items()
    ]


def test_ratios_are_to_the_fastest_peer_of_a_kind(peers: ModuleType) -> None:
    found = peers.ratios(rows_of(peers))
    assert [text.partition(" times")[0].split()[-1] for text in found] == ["1.50", "3.00"]
    assert all("lightly" in text for text in found)
    assert "with 1.50 of its memory" in found[0]


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_a_row_that_says_so(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.STAGES, "mae", ("ours", "no-such-peer"))
    options = Namespace(stages=["mae"], size="smoke", batch=2, steps=1, repeats=1)
    problems: dict[str, str] = {}
    assert peers.compare_losses(sys.executable, options, problems)
    row = peers.Row("mae", "no-such-peer", "bf16", problem=problems["no-such-peer"])
    peers.take(row, sys.executable, options, {})
    assert "| mae | no-such-peer | bf16 | failed: " in peers.table([row], options)


def test_the_account_finds_products_attention_and_the_optimizer(steps: ModuleType) -> None:
    import account

    found = account.account("mae", "smoke", 4)
    assert found["products of linear layers"] > 0
    assert found["attention"] > 0
    assert found["optimizer"] > 0
    assert account.group_of("aten::never_heard_of") == account.OTHER


@pytest.mark.slow
def test_the_command_as_it_is_run(peers: ModuleType, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--size", "smoke", "--no-install", "--repeats", "1", "--steps", "1", "--stages", "wsp"]
    monkeypatch.setattr(sys, "argv", ["peers.py", *arguments])
    assert peers.main() == 0
    printed = capsys.readouterr().out
    assert "they agree" in printed
    assert "times the images/s of the fastest peer, timm (bf16)" in printed
    assert "times the images/s of the fastest peer, timm (shipped)" in printed


def test_an_environment_shares_torch_and_names_what_does_not_install(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is a stand-in: it writes down what it is asked for, and refuses one."""
    asked: list[list[str]] = []
    run = peers.subprocess.run

    def stand_in(command: list[str], **named: Any) -> Any:
        asked.append(command)
        if "venv" in command:
            return run([*command, "--without-pip"], **named)
        if "freeze" in command:
            return Namespace(stdout="numpy==2.4.6\ntimm==1.0.31\ntorch==2.14.1\n")
        if "install" in command:
            refused = "lightly" in command[-1]
            return Namespace(returncode=int(refused), stderr="ERROR: no matching distribution" if refused else "")
        return run(command, **named)

    monkeypatch.setattr(peers.subprocess, "run", stand_in)
    python, problems = peers.environment(tmp_path / "peers")
    assert problems == {"lightly": "does not install: ERROR: no matching distribution"}
    assert (tmp_path / "peers" / "constraints.txt").read_text() == "numpy==2.4.6\ntorch==2.14.1\n"
    found = run([python, "-c", "import json, torch; print(json.dumps(torch.__file__))"], capture_output=True, text=True)
    assert json.loads(found.stdout) == torch.__file__
    assert [command[-1] for command in asked if "install" in command] == list(peers.PEERS.values())
