"""Checkpoints: what is saved comes back bit for bit; what was damaged is passed over, loudly, not silently."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from support.ranks import checkpoint
from underpaint.training.checkpoint import Checkpoints, DamagedCheckpoint
from underpaint.training.loop import TrainState, start_average


class Network(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)
        self.frozen = nn.Parameter(torch.arange(4.0), requires_grad=False)


def new_state(*, width: int = 4, average: bool = True, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    network = Network(width)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([{"params": trained}], lr=0.1)
    return TrainState(network, optimizer, start_average(network, 0.9) if average else None)


def train_to(state: TrainState, step: int) -> TrainState:
    while state.step < step:
        images = torch.randn(8, 3, generator=torch.Generator().manual_seed(state.step))
        network = state.objective
        assert isinstance(network, Network)
        network.norm(network.encoder(images)).square().sum().add(network.norm.weight.sum()).backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        state.clock.seconds["forward"] += 0.5
    return state


def everything(state: TrainState) -> dict[str, Tensor]:
    """All tensors and numbers of a state, taken from torch's own state dicts."""
    found = {f"model.{name}": value for name, value in state.objective.state_dict().items()}
    if state.average is not None:
        found |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for index, slots in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    numbers = {"step": state.step, "skipped": state.skipped, "seconds": state.seconds}
    return found | {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}


def assert_same(state: TrainState, other: TrainState) -> None:
    mine, theirs = everything(state), everything(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def checkpoints(tmp_path: Path, *, keep_every: int = 1000) -> Checkpoints:
    return Checkpoints(folder=tmp_path / "checkpoints", keep_every=keep_every)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    saved = train_to(new_state(), 3)
    saved.skipped = 1
    checkpoints(tmp_path).save(saved)
    loaded = new_state(seed=1)
    assert list(checkpoints(tmp_path).resume(loaded)) == []
    assert_same(loaded, saved)
    assert_same(train_to(loaded, 5), train_to(saved, 5))


def test_the_checkpoint_of_the_first_release_loads(tmp_path: Path) -> None:
    """``checkpoints/format-1`` was written by that release, in one process, after three steps; it stays for ever."""
    kept = Path(__file__).parent / "checkpoints" / "format-1"
    shutil.copytree(kept, tmp_path / "checkpoints")
    loaded = new_state(seed=1)
    assert list(checkpoints(tmp_path).resume(loaded)) == []
    assert (loaded.step, loaded.skipped, loaded.seconds) == (3, 1, 1.5)
    # What its files hold, and not what three steps give on another processor: AdamW makes drift of the rounding of a
    # gradient that is zero in truth, as here that of the encoder under the norm.
    theirs = {
        f"{kind}.{name}": value
        for kind in ("model", "optimizer", "average")
        for name, value in checkpoint(tmp_path, 3, kind).items()
    }
    mine = everything(loaded)
    for number, name in enumerate(("encoder.weight", "encoder.bias", "norm.weight", "norm.bias")):
        for slot in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(mine[f"optimizer.{number}.{slot}"], theirs.pop(f"optimizer.{name}.{slot}")), name
    assert theirs.keys() == {name for name in mine if name.startswith(("model.", "average."))}
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name
    train_to(loaded, 5)


def test_what_was_skipped_and_where_the_time_went_come_back(tmp_path: Path) -> None:
    saved = train_to(new_state(), 2)
    for loss in (0.3, 0.1, 0.2):
        saved.history.take(loss)
    saved.history.skip(16, 32)
    saved.clock.seconds |= {"evaluate": 3.0, "save": 0.25}
    checkpoints(tmp_path).save(saved)
    loaded = new_state()
    list(checkpoints(tmp_path).resume(loaded))
    assert (loaded.history, loaded.clock.seconds) == (saved.history, saved.clock.seconds)
    assert loaded.seconds == saved.seconds == 1.0


def test_a_checkpoint_written_beside_the_training_holds_the_step_it_was_asked_for(tmp_path: Path) -> None:
    own = Checkpoints(folder=tmp_path / "checkpoints", keep_every=1000, asynchronous=True)
    state = train_to(new_state(), 2)
    own.save(state)
    train_to(state, 4)
    own.wait()
    loaded = new_state(seed=1)
    assert list(own.resume(loaded)) == []
    assert_same(loaded, train_to(new_state(), 2))


def test_a_failure_beside_the_training_is_raised_at_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Checkpoints(folder=tmp_path / "checkpoints", keep_every=1000, asynchronous=True)
    state = train_to(new_state(), 2)
    own.save(state)
    own.wait()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    own.save(train_to(state, 4))
    with pytest.raises(OSError, match="No space left"):
        own.wait()
    own.wait()
    assert [path.name for path in own.folder.iterdir()] == ["step-00000002"]


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    state = new_state()
    assert list(checkpoints(tmp_path).resume(state)) == []
    assert_same(state, new_state())


def test_the_manifest_lists_everything(tmp_path: Path) -> None:
    state = train_to(new_state(), 3)
    path = checkpoints(tmp_path).save(state)
    assert path.name == "step-00000003"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format"] == 2
    assert manifest.pop("xxh3") == checksum(manifest)
    present = {file.name for file in path.iterdir()} - {"manifest.json"}
    assert manifest["files"].keys() == present
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        assert entry == {"size": len(content), "xxh3": xxhash.xxh3_64_hexdigest(content)}
    stored: dict[str, Tensor] = {}
    for file in path.glob("*.safetensors"):
        stored |= {f"{file.name.partition('-')[0]}.{name}": value for name, value in load_file(file).items()}
    assert manifest["tensors"].keys() == stored.keys()
    expected = everything(state)
    assert {name for name in stored if not name.startswith("optimizer.")} == {
        name for name in expected if name.startswith(("model.", "average."))
    }
    assert {name for name in stored if name.startswith("optimizer.encoder.weight.")} == {
        f"optimizer.encoder.weight.{slot}" for slot in ("step", "exp_avg", "exp_avg_sq")
    }
    assert not any(name.startswith("optimizer.frozen") for name in stored)
    for name, entry in manifest["tensors"].items():
        value = stored[name]
        assert (entry["shape"], entry["dtype"]) == (list(value.shape), str(value.dtype))
        (piece,) = entry["pieces"]
        assert piece["shape"] == list(value.shape)
        assert piece["offset"] == [0] * value.ndim
        assert (path / piece["file"]).is_file()


def checksum(manifest: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(manifest, sort_keys=True).encode())


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit the manifest, and its own checksum so that it agrees."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["xxh3"]
    change(manifest)
    (path / "manifest.json").write_text(json.dumps({**manifest, "xxh3": checksum(manifest)}))


def retensor(path: Path, group: str, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Edit the tensors of a group, and the manifest so that it agrees: a whole checkpoint of something else."""
    file = path / f"{group}-00000.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)

    def agree(manifest: dict[str, Any]) -> None:
        content = file.read_bytes()
        manifest["files"][file.name] = {"size": len(content), "xxh3": xxhash.xxh3_64_hexdigest(content)}
        others = {name: entry for name, entry in manifest["tensors"].items() if not name.startswith(f"{group}.")}
        for name, value in tensors.items():
            piece = {"file": file.name, "offset": [0] * value.ndim, "shape": list(value.shape)}
            others[f"{group}.{name}"] = {"shape": list(value.shape), "dtype": str(value.dtype), "pieces": [piece]}
        manifest["tensors"] = others

    rewrite(path, agree)


def flip_bit(path: Path) -> None:
    content = bytearray((path / "model-00000.safetensors").read_bytes())
    content[-3] ^= 0x10
    (path / "model-00000.safetensors").write_bytes(content)


def flip_bit_of_the_state(path: Path) -> None:
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text.replace('"seconds": 2', '"seconds": 3'))


def flip_bit_of_the_manifest(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"size": 1', '"size": 3', 1))


def truncate(path: Path) -> None:
    with (path / "optimizer-00000.safetensors").open("r+b") as file:
        file.truncate(100)


def delete_file(path: Path) -> None:
    (path / "average-00000.safetensors").unlink()


def delete_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def empty_manifest_file(path: Path) -> None:
    (path / "manifest.json").write_text("")


def manifest_of(value: Any) -> Callable[[Path], None]:
    return lambda path: (path / "manifest.json").write_text(json.dumps(value)) and None


def newer_format(path: Path) -> None:
    rewrite(path, lambda manifest: manifest.update(format=3))


def wrong_shape_in_manifest(path: Path) -> None:
    rewrite(path, lambda manifest: manifest["tensors"]["model.encoder.bias"].update(shape=[5]))


def wrong_type_in_manifest(path: Path) -> None:
    rewrite(path, lambda manifest: manifest["tensors"]["model.encoder.bias"].update(dtype="torch.float16"))


def no_type_in_manifest(path: Path) -> None:
    rewrite(path, lambda manifest: manifest["tensors"]["model.encoder.bias"].update(dtype="torch.load"))


def pieces_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return manifest["tensors"]["model.encoder.bias"]["pieces"]


def piece_of_another_shape(path: Path) -> None:
    rewrite(path, lambda manifest: pieces_of(manifest)[0].update(shape=[3]))


def piece_twice(path: Path) -> None:
    rewrite(path, lambda manifest: pieces_of(manifest).append(pieces_of(manifest)[0]))


def piece_elsewhere(path: Path) -> None:
    rewrite(path, lambda manifest: pieces_of(manifest)[0].update(offset=[2]))


def piece_that_no_file_has(path: Path) -> None:
    rewrite(path, lambda manifest: pieces_of(manifest)[0].update(file="average-00000.safetensors.gone"))


def tensor_that_no_file_has(path: Path) -> None:
    rewrite(path, lambda manifest: manifest["tensors"].update({"model.x": manifest["tensors"]["model.encoder.bias"]}))


def tensor_left_out(path: Path) -> None:
    rewrite(path, lambda manifest: manifest["tensors"].pop("model.encoder.bias"))


def unknown_group(path: Path) -> None:
    rewrite(path, lambda manifest: manifest["tensors"].update({"more.x": manifest["tensors"]["model.encoder.bias"]}))


def path_out_of_the_folder(path: Path) -> None:
    rewrite(path, lambda m: m["files"].update({"../step-00000002/state.json": m["files"]["state.json"]}))


def foreign_extra_tensor(path: Path) -> None:
    retensor(path, "model", lambda tensors: tensors.update(extra=torch.zeros(2)))


def foreign_shape(path: Path) -> None:
    retensor(path, "model", lambda tensors: tensors.update({"encoder.bias": torch.zeros(9)}))


def foreign_optimizer_shape(path: Path) -> None:
    retensor(path, "optimizer", lambda tensors: tensors.update({"encoder.bias.exp_avg": torch.zeros(9)}))


def foreign_optimizer_name(path: Path) -> None:
    retensor(path, "optimizer", lambda tensors: tensors.update({"decoder.bias.exp_avg": torch.zeros(9)}))


def checkpoint_of_another_step(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.with_name("step-00000002"), path)


DAMAGES = [
    (flip_bit, r"model-00000\.safetensors does not match its checksum"),
    (flip_bit_of_the_state, r"state\.json does not match its checksum"),
    (truncate, r"optimizer-00000\.safetensors has 100 bytes instead of \d+"),
    (delete_file, r"average-00000\.safetensors"),
    (delete_manifest, r"manifest"),
    (empty_manifest_file, r"manifest\.json is not valid JSON"),
    (manifest_of({}), r"manifest"),
    (manifest_of([]), r"manifest"),
    (manifest_of({"format": 1, "files": {}, "tensors": {}}), r"other tensors"),
    (manifest_of({"format": 1, "files": {"state.json": 3}, "tensors": {}}), r"manifest"),
    (manifest_of({"format": 2, "files": {}, "tensors": {}}), r"manifest"),
    (flip_bit_of_the_manifest, r"manifest\.json does not match its checksum"),
    (newer_format, r"format 3; this release reads up to 2"),
    (wrong_shape_in_manifest, r"model has other tensors than this run: encoder\.bias"),
    (wrong_type_in_manifest, r"encoder\.bias is torch\.float32 \[4\], not what the manifest says"),
    (no_type_in_manifest, r"disagree"),
    (piece_of_another_shape, r"the pieces of model\.encoder\.bias do not make up \[4\]"),
    (piece_twice, r"the pieces of model\.encoder\.bias do not make up \[4\]"),
    (piece_elsewhere, r"the pieces of model\.encoder\.bias overlap or leave a gap"),
    (tensor_that_no_file_has, r"model has other tensors than this run: x"),
    (piece_that_no_file_has, r"disagree|does not contain"),
    (tensor_left_out, r"model has other tensors than this run: encoder\.bias"),
    (unknown_group, r"disagree"),
    (path_out_of_the_folder, r"is not a file of the folder"),
    (foreign_extra_tensor, r"model has other tensors than this run: extra"),
    (foreign_shape, r"model has other tensors than this run: encoder\.bias"),
    (foreign_optimizer_shape, r"optimizer has other tensors than this run: encoder\.bias\.exp_avg"),
    (foreign_optimizer_name, r"optimizer has other tensors than this run: decoder\.bias\.exp_avg"),
    (checkpoint_of_another_step, r"it holds step 2"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES, ids=[f"{n}-{d.__name__}" for n, (d, _) in enumerate(DAMAGES)])
def test_a_damaged_checkpoint_is_passed_over_and_named(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    own, state = checkpoints(tmp_path), new_state()
    own.save(train_to(state, 2))
    older = {name: value.clone() for name, value in everything(state).items()}
    newest = own.save(train_to(state, 4))
    damage(newest)
    loaded = new_state(seed=1)
    (warning,) = own.resume(loaded)
    assert warning.startswith("checkpoint step-00000004 is damaged, renamed and passed over: ")
    assert re.search(reason, warning)
    found = everything(loaded)
    assert found.keys() == older.keys()
    assert all(torch.equal(found[name], older[name]) for name in older)
    assert sorted(path.name for path in own.folder.iterdir()) == ["step-00000002", "step-00000004.damaged"]
    again = new_state(seed=2)
    assert list(own.resume(again)) == []
    assert again.step == 2


def test_without_any_good_checkpoint_the_run_does_not_start_over(tmp_path: Path) -> None:
    own, state = checkpoints(tmp_path), new_state()
    for step in (2, 4):
        flip_bit(own.save(train_to(state, step)))
    for _ in range(2):  # the second time they have been renamed already
        fresh = new_state(seed=1)
        before = {name: value.clone() for name, value in everything(fresh).items()}
        with pytest.raises(DamagedCheckpoint, match=r"no checkpoint in .* is usable; move the folder away"):
            list(own.resume(fresh))
        assert all(torch.equal(value, before[name]) for name, value in everything(fresh).items())


def test_the_same_step_may_be_damaged_twice(tmp_path: Path) -> None:
    own, state = checkpoints(tmp_path), new_state()
    own.save(train_to(state, 2))
    for _ in range(2):
        loaded = new_state()
        list(own.resume(loaded))
        flip_bit(own.save(train_to(loaded, 4)))
    loaded = new_state(seed=1)
    assert len(list(own.resume(loaded))) == 1
    assert loaded.step == 2


def test_strangers_among_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    own, state = checkpoints(tmp_path), new_state()
    own.save(train_to(state, 2))
    for name in ("step-9", "step-00000009.part", "notes", "step-0000000x"):
        (own.folder / name).mkdir()
    (own.folder / "step-00000005").write_text("a file")
    assert [path.name for path in own.newest()] == ["step-00000005", "step-00000002"]
    loaded = new_state(seed=1)
    assert len(list(own.resume(loaded))) == 1
    assert loaded.step == 2


def test_the_last_two_and_every_kth_stay(tmp_path: Path) -> None:
    own, state = checkpoints(tmp_path, keep_every=6), new_state()
    for step in range(2, 17, 2):
        own.save(train_to(state, step))
    assert [path.name for path in own.newest()] == [f"step-{step:08d}" for step in (16, 14, 12, 6)]


def test_saving_a_step_again_touches_nothing(tmp_path: Path) -> None:
    own, state = checkpoints(tmp_path), new_state()
    path = own.save(train_to(state, 2))
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    assert own.save(state) == path
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before


def test_a_full_disk_leaves_the_old_checkpoint_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, state = checkpoints(tmp_path), new_state()
    own.save(train_to(state, 2))
    kept = train_to(new_state(), 2)
    train_to(state, 4)
    calls = 0
    fsync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for failing in range(1, 50):
        calls = 0
        shutil.rmtree(own.folder / "step-00000004", ignore_errors=True)
        try:
            own.save(state)
        except OSError:
            names = [path.name for path in own.folder.iterdir() if path.name != "step-00000004"]
            assert names == ["step-00000002"], failing
        if calls < failing:
            break
    assert failing > 5, "every write must have failed once"
    shutil.rmtree(own.folder / "step-00000004")
    loaded = new_state(seed=1)
    assert list(own.resume(loaded)) == []
    assert_same(loaded, kept)


def test_one_without_average_does_not_fit_one_with(tmp_path: Path) -> None:
    own = checkpoints(tmp_path)
    own.save(train_to(new_state(average=False), 2))
    with pytest.raises(DamagedCheckpoint, match="no checkpoint"):
        list(own.resume(new_state()))
