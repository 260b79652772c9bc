"""Parts side by side: each once, after what it needs, in other processes. Their bits: test_kill_study.py."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import pkgutil
import random
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import underpaint
from support.part_examples import PARTS, build
from underpaint import files, verbs
from underpaint.core import DataInfo
from underpaint.recipes import mae_smoke
from underpaint.studies import jobs
from underpaint.studies.jobs import LOCKS, LOGS, Agenda, ProcessEnded, run_parts, usual_jobs
from underpaint.studies.parts import ComputePart, Study, TrainPart, Work, is_done, output_of, read_output


def part(name: str, *needs: str) -> ComputePart:
    return ComputePart(name=name, compute=lambda folder: {}, settings=None, inputs=needs)


def chain() -> Study:
    """Two chains of a stage and what is measured on it, and one part that needs both."""
    parts = (part("mae"), part("wsp"), part("mae_wsp", "mae"), part("score", "mae_wsp"), part("both", "wsp", "mae_wsp"))
    built = build()
    return Study(name="x", settings={}, parts=parts, seeds=(), parts_of=lambda seed: parts, results=built.results)


@pytest.mark.parametrize("seed", range(20))
def test_a_part_begins_after_what_it_needs_in_any_order(seed: int) -> None:
    study, draw = chain(), random.Random(seed)
    agenda = Agenda(study, {part.name for part in study.parts})
    ended: list[str] = []
    while len(agenda):
        while len(agenda.begun) < 2 and (begun := agenda.begin()) is not None:
            assert isinstance(begun, ComputePart)
            assert set(begun.inputs) <= set(ended)
        assert agenda.begun, "something can always begin"
        ended.append(draw.choice(agenda.begun))
        agenda.end(ended[-1])
    assert sorted(ended) == sorted(part.name for part in study.parts)


def test_a_part_whose_inputs_are_not_asked_for_begins() -> None:
    """With --only, what it needs was made by an earlier command, or its absence is the part's own error."""
    agenda = Agenda(chain(), {"score"})
    begun = agenda.begin()
    assert begun is not None
    assert begun.name == "score"


@pytest.mark.slow
def test_each_part_runs_once_in_another_process_and_prints_to_its_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_parts(build(), tmp_path, jobs=2, build=build)
    pids = {read_output(f"part-{number}-seed0", tmp_path)["pid"] for number in range(PARTS)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    for number in range(PARTS):
        assert (tmp_path / LOGS / f"part-{number}-seed0.txt").read_text().splitlines()[0] == f"part {number}"
    printed = capfd.readouterr().err
    assert f"[{PARTS}/{PARTS}] part-{PARTS - 1}-seed0: " in printed
    assert f"part {PARTS - 1}\n" not in printed


@pytest.mark.slow
def test_after_a_failure_no_part_begins_and_the_error_is_that_of_the_part(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = partial(build, failing=1)
    with pytest.raises(ValueError, match="part 1 has no data"):
        run_parts(failing(), tmp_path, jobs=2, build=failing)
    assert not output_of(f"part-{PARTS - 1}-seed0", tmp_path).exists()
    assert (
        f"part-1-seed0 failed; what it printed is in {tmp_path / LOGS / 'part-1-seed0.txt'}" in capfd.readouterr().err
    )
    assert run_parts(build(), tmp_path), "the same command goes on"


@pytest.mark.slow
def test_a_process_that_the_system_ends_ends_the_study_with_one_line(tmp_path: Path) -> None:
    """Where memory runs out the system asks nobody; the study waited for ever."""
    killed = partial(build, killed=1)
    with pytest.raises(ProcessEnded, match=r"worked on .*part-1-seed0.*smaller --jobs"):
        run_parts(killed(), tmp_path, jobs=2, build=killed)
    assert run_parts(build(), tmp_path, jobs=2, build=build), "the same command goes on"


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"format": 2, "made_from": "", "output": 1}', ""])
def test_a_damaged_output_of_a_part_is_named_with_the_way_out(content: str, tmp_path: Path) -> None:
    output = output_of("part-0-seed0", tmp_path)
    output.parent.mkdir()
    output.write_text(content)
    for read in (partial(is_done, build().parts[0]), partial(read_output, "part-0-seed0")):
        with pytest.raises(ValueError, match=r"part-0-seed0\.json is (damaged.*delete it|not valid JSON)"):
            read(tmp_path)


def test_a_pool_that_broke_fails_the_part_that_it_does_not_take(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(BrokenProcessPool):
            pool.submit(os._exit, 1).result()
        assert isinstance(jobs._submit(pool, "part-0-seed0", build, tmp_path).exception(), BrokenProcessPool)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_signals_end_a_study_while_its_parts_are_at_work(count: int, tmp_path: Path) -> None:
    """The second signal came before the other processes had been told of the first, and their parts were waited for."""
    running = partial(build, seconds=60)

    def send() -> None:
        while not list((tmp_path / LOGS).glob("*.txt")):
            time.sleep(0.05)
        for _ in range(count):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    threading.Thread(target=send, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_parts(running(), tmp_path, jobs=2, build=running)
    assert time.monotonic() - started < 30


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_part_that_another_command_works_on_is_waited_for(
    count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RETRY_AFTER", 0.2)
    monkeypatch.setattr(jobs, "LOOK_EVERY", 0.1)
    (tmp_path / LOCKS).mkdir()
    begun, found_locked = threading.Event(), threading.Event()

    def work_elsewhere() -> None:
        with files.locked(tmp_path / LOCKS / "part-0-seed0"):
            begun.set()
            found_locked.wait()

    def put_back(agenda: Agenda, name: str) -> None:
        usual(agenda, name)
        found_locked.set()

    usual = Agenda.put_back
    monkeypatch.setattr(Agenda, "put_back", put_back)
    files.write_json(tmp_path / "study.json", {"format": 1, "settings": {"study": "stages"}})
    thread = threading.Thread(target=work_elsewhere, daemon=True)
    thread.start()
    begun.wait()
    assert run_parts(build(), tmp_path, jobs=count, build=build)
    assert not thread.is_alive(), "the part was begun while another held it"
    assert capfd.readouterr().err.count("part-0-seed0: another command is working on it") == 1


def trained(samples: int) -> Study:
    run = mae_smoke()
    run = replace(run, threads=1, budget=replace(run.budget, samples=samples))
    parts = (TrainPart(name="mae", run=run, data_info=DataInfo(seed=0)),)
    return replace(build(), parts=parts, parts_of=lambda seed: parts)


def test_short_studies_have_one_job_and_longer_ones_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "usable_cpus", lambda: 6)
    monkeypatch.setattr(jobs, "JOB_MEMORY", 1)
    assert usual_jobs(trained(640)) == 1
    assert usual_jobs(trained(10_000_000)) == 6
    monkeypatch.setattr(jobs, "JOB_MEMORY", 2**60)
    assert usual_jobs(trained(10_000_000)) == 1


@pytest.mark.parametrize(("flops", "count", "expected"), [(1e9, 10, 1), (1e13, 0, 6), (0.0, 1_000_000, 6)])
def test_evaluations_and_the_images_that_they_read_make_a_study_long(
    flops: float, count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "usable_cpus", lambda: 6)
    monkeypatch.setattr(jobs, "JOB_MEMORY", 1)
    work = Work(images=count, flops=flops, like=(replace(mae_smoke(), threads=1), DataInfo(seed=0)))
    part = ComputePart(name="linear", compute=lambda folder: {}, settings=[], work=work)
    assert usual_jobs(replace(build(), parts=(part,), parts_of=lambda seed: (part,))) == expected


@pytest.mark.parametrize("count", [-1, 7, 10_000])
def test_more_jobs_than_cores_are_refused_before_anything_is_read(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is a process of its own, with the memory of one."""
    monkeypatch.setattr(verbs, "usable_cpus", lambda: 6)
    with pytest.raises(ValueError, match=f"jobs={count} must lie between 1 and 6"):
        verbs.run_study("stages", images="no/such/folder", jobs=count)


def test_every_error_of_the_package_survives_the_way_to_another_process() -> None:
    for module in pkgutil.walk_packages(underpaint.__path__, "underpaint."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    errors = [kind for kind in subclasses(Exception) if kind.__module__.startswith("underpaint.")]
    assert {"Interrupted", "BadImage", "OutOfSpace", "NonFiniteLoss"} <= {kind.__name__ for kind in errors}
    for kind in errors:
        assert str(pickle.loads(pickle.dumps(kind("why")))) == "why", kind


def subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))
