"""`underpaint prepare` as a process: without a network, on Ray, and killed at random moments."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.prepare_examples import (
    TAGS,
    index_of,
    names_of,
    outputs,
    picture,
    pictures,
    write_csv,
    write_files,
    write_tars,
)

REPOSITORY = Path(__file__).resolve().parents[2]
REFUSE = """
import os, socket

def refuse(self, address, *rest):
    with open(os.environ["ATTEMPTS"], "a") as file:
        file.write(f"{address}\\n")
    raise OSError("the network is refused")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = lambda *given, **named: refuse(None, given)
"""


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    photos = write_files(tmp_path / "photos", pictures())
    write_csv(photos / "tags.csv", TAGS)
    return [str(photos), str(write_tars(tmp_path / "tars", pictures(), TAGS, size=2))]


def command(*given: str) -> list[str]:
    return [sys.executable, "-m", "underpaint", *given]


def run(line: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    done = subprocess.run(line, capture_output=True, text=True, env=known, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_nothing_is_told_to_anybody(tmp_path: Path, sources: list[str]) -> None:
    """Python's sockets refuse, and where Linux can give a process a network of its own, the kernel counts nothing."""
    (tmp_path / "site" / "sitecustomize.py").parent.mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSE)
    attempts = tmp_path / "attempts"
    path = f"{tmp_path / 'site'}{os.pathsep}{REPOSITORY}"
    run(command("prepare", *sources, "--out", str(tmp_path / "set1")), PYTHONPATH=path, ATTEMPTS=str(attempts))
    assert not attempts.exists()
    try_it = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    tried = subprocess.run(
        [sys.executable, "-c", try_it], env={**os.environ, "PYTHONPATH": path, "ATTEMPTS": str(attempts)}
    )
    assert tried.returncode == 1
    assert attempts.read_text(), "the refusal works"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        return  # not on a Mac, nor where the kernel does not lend namespaces
    assert packets(command("prepare", *sources, "--out", str(tmp_path / "set2"))) == 0
    assert packets([sys.executable, "-c", f"try:\n    {try_it}\nexcept OSError:\n    pass"]) > 0, "the kernel counts"
    assert names_of(tmp_path / "set2") == names_of(tmp_path / "set1")


def packets(line: list[str]) -> int:
    """What a process tried to send, in a network of its own that leads nowhere."""
    shell = ["unshare", "-rn", "sh", "-c", '"$@" >/dev/null && cat /proc/net/snmp', "sh", *line]
    rows = [one.split() for one in run(shell).stdout.splitlines()]
    told = {(names[0], name): int(value) for names, values in zip(rows[::2], rows[1::2], strict=True)
            for name, value in zip(names[1:], values[1:], strict=True)}  # fmt: skip
    return told["Tcp:", "ActiveOpens"] + told["Udp:", "OutDatagrams"] + told["Ip:", "OutNoRoutes"]


@pytest.mark.slow
def test_ray_gives_the_tables_of_the_native_engine(tmp_path: Path, sources: list[str]) -> None:
    """The same program on two workers of a Ray of its own."""
    for engine in ("native", "ray"):
        run(command("prepare", *sources, "--engine", engine, "--out", str(tmp_path / engine / "set")))
    native, ray = tmp_path / "native" / "set", tmp_path / "ray" / "set"
    for file in ("index.parquet", "vocabulary.parquet", "tags_audit.parquet", "dropped.parquet"):
        one, other = (pq.read_table(out / file) for out in (native, ray))
        by = [(name, "ascending") for name in ("shard", "key", "label", "tag") if name in one.column_names]
        assert one.sort_by(by) == other.sort_by(by), file
    assert outputs(native) == outputs(ray), "to the byte, in fact"
    assert len(index_of(ray)) == 2 * len(TAGS)


@pytest.mark.slow
def test_killed_at_random_moments_it_continues_to_the_same_bytes() -> None:
    script = REPOSITORY / "benchmarks" / "faults" / "kill_prepare.py"
    told = run([sys.executable, str(script), "--kills", "2", "--images", "120"]).stdout
    assert "2 kills" in told
    assert " 0 files differ" in told


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_resumably(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 75 and the line to continue with; Daft's threads are not left inside an interpreter that ends."""
    photos = write_files(tmp_path / "photos", {f"{n:04d}.png": picture(n) for n in range(1500)})
    line = command("prepare", str(photos), "--out", str(tmp_path / "set"), "--shard-images", "10")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        rows = tmp_path / "set" / "prepare_work" / "rows"
        while process.poll() is None and not list(rows.glob("*.parquet")):
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 75, told
    assert "interrupted; continue with" in told
    assert 1 <= len(list(rows.glob("*.parquet"))) < 100
