"""Files as training code leaves them, damaged and mutated: read under their plain names, or refused in one line."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import underpaint
from support import clip_examples as clips
from support import weights_examples as examples
from support.weights_examples import CLASSES, HEADS, TOLD, images
from underpaint.models import weights
from underpaint.models.vit import ViT, ViTConfig
from underpaint.weights.importing import import_weights

State = dict[str, Tensor]


class Holder(nn.Module):
    """A network that holds another as an attribute, as most training code does."""

    def __init__(self, attribute: str, inner: nn.Module) -> None:
        super().__init__()
        self.add_module(attribute, inner)


def under(*attributes: str) -> Callable[[nn.Module], State]:
    """The state dict of a network inside others, the outermost named first; torch names the tensors."""

    def state(network: nn.Module) -> State:
        for attribute in reversed(attributes):
            network = Holder(attribute, network)
        return dict(network.state_dict())

    return state


def compiled(network: nn.Module) -> State:
    return dict(torch.compile(network).state_dict())  # pyright: ignore[reportAttributeAccessIssue]


def compiled_block(network: Any) -> State:
    """One block alone, so that ``_orig_mod`` stands in the middle of its names."""
    network.blocks[0] = torch.compile(network.blocks[0])
    return dict(network.state_dict())


WRAPPED: dict[str, Callable[[nn.Module], State]] = {
    **{name: under(name) for name in ("module", "model", "encoder", "backbone")},
    "module.model.encoder.backbone": under("module", "model", "encoder", "backbone"),
    "torch.compile": compiled,
    "torch.compile of a block": compiled_block,
    "compiled inside DDP inside another": lambda network: under("module", "encoder")(torch.compile(network)),  # pyright: ignore[reportArgumentType]
}


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_names_behind_wrappers_are_read(tmp_path: Path, wrapper: str, suffix: str) -> None:
    network = examples.timm_model(num_classes=CLASSES)
    features, scores = network.forward_features(images()), network(images())
    state = {name: value.contiguous() for name, value in WRAPPED[wrapper](network).items()}
    assert wrapper in ("torch.compile of a block",) or not any(name == "cls_token" for name in state)
    path = tmp_path / f"x{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    import_weights(path, tmp_path / "out", TOLD)
    torch.testing.assert_close(underpaint.load_encoder(tmp_path / "out")(images()), features, rtol=0, atol=1e-5)
    model: Any = underpaint.load_model(tmp_path / "out")
    torch.testing.assert_close(model.logits(images()), scores, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_classifier_beside_the_wrapped_encoder(tmp_path: Path) -> None:
    """``module.backbone.*`` and ``module.head.*``, one level above each other."""
    network = examples.timm_model(num_classes=CLASSES)
    scores, head = network(images()), network.head
    network.head = nn.Identity()
    both = Holder("backbone", network)
    both.add_module("head", head)
    torch.save(Holder("module", both).state_dict(), tmp_path / "x.pt")
    import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    model: Any = underpaint.load_model(tmp_path / "out")
    torch.testing.assert_close(model.logits(images()), scores, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("wrapper", ["module", "model", "encoder", "backbone"])
def test_other_namings_behind_wrappers(tmp_path: Path, wrapper: str) -> None:
    """torchvision's names begin with ``encoder.`` themselves, transformers' with ``encoder.layer``."""
    vision = examples.torchvision_model()
    torch.save(Holder(wrapper, vision).state_dict(), tmp_path / "vision.pt")
    import_weights(tmp_path / "vision.pt", tmp_path / "vision", [f"heads={HEADS}"])
    model: Any = underpaint.load_model(tmp_path / "vision")
    torch.testing.assert_close(model.logits(images()), vision(images()), rtol=0, atol=1e-5)
    vit = examples.hf_vit(tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    save_file(dict(Holder(wrapper, vit).state_dict()), tmp_path / "hf" / "model.safetensors")
    import_weights(tmp_path / "hf", tmp_path / "out")
    encoder = underpaint.load_encoder(tmp_path / "out")
    torch.testing.assert_close(encoder(images()), vit(images()).last_hidden_state, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "keys", [("model",), ("state_dict",), ("model_state_dict",), ("encoder",), ("backbone",), ("state_dict", "model")]
)
def test_tensors_under_the_keys_of_training_code(tmp_path: Path, keys: tuple[str, ...]) -> None:
    network = examples.timm_model()
    content: dict[str, Any] = dict(network.state_dict())
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "x.pt")
    result = import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    assert {"epoch", "optimizer"} <= set(result["left_out"])
    encoder = underpaint.load_encoder(tmp_path / "out")
    torch.testing.assert_close(encoder(images()), network.forward_features(images()), rtol=0, atol=1e-5)


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    state = examples.timm_model().state_dict()
    torch.save({**state, **{f"_orig_mod.{name}": value for name, value in state.items()}}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds both cls_token and _orig_mod\.cls_token; save .* alone"):
        import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)


def test_a_mapping_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["model"] = content
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="holds no tensors"):
        import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)


def test_a_folder_of_underpaint_is_not_imported_again(tmp_path: Path) -> None:
    torch.save(examples.timm_model().state_dict(), tmp_path / "x.pt")
    import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    with pytest.raises(ValueError, match="encoder is a folder of underpaint already"):
        import_weights(tmp_path / "out" / "encoder", tmp_path / "again")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["pos_embed", "blocks.1.attn.qkv.weight", "head.bias"])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, name: str, dtype: torch.dtype, value: float) -> None:
    state = {key: tensor.to(dtype) for key, tensor in examples.timm_model(num_classes=CLASSES).state_dict().items()}
    state[name].view(-1)[1:4] = value
    torch.save(state, tmp_path / "x.pt")
    message = rf"x\.pt cannot be used: 3 of the {state[name].numel():,} values of {name} are NaN or infinite"
    with pytest.raises(ValueError, match=message):
        import_weights(tmp_path / "x.pt", tmp_path / "out", TOLD)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_folder_with_such_values_is_not_loaded(tmp_path: Path) -> None:
    """One that import did not write, or that wrote them before import looked."""
    encoder = ViT(ViTConfig(size=(32, 32), patch=8, width=32, depth=2, heads=4))
    with torch.no_grad():
        encoder.blocks[0].norm1.weight[5] = float("nan")  # pyright: ignore[reportIndexIssue,reportAttributeAccessIssue]
    weights.save_encoder(tmp_path / "encoder", encoder)
    with pytest.raises(ValueError, match=r"encoder cannot be used: 1 of the 32 values of blocks\.0\.norm1\.weight"):
        underpaint.load_encoder(tmp_path / "encoder")


SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (5,), (0, 3), (32, 0, 8, 8), (32, 3, 0, 0), (1, 1), (2, 3, 4))
SHAPES += ((1, 1, 32), (1, 0, 32), (32, 3, 2, 8, 8), (32, 32), (7, 32), (1, 17, 30), (33, 3, 8, 8), (32, 3, 9, 9))


def vision_transformers() -> dict[str, dict[str, Any]]:
    mae = examples.mae_tensors()
    return {
        "bare.pt": dict(examples.maws_tensors(classes=CLASSES)),
        "mae_pretrain.pth": {"model": mae},
        "swag.torch": dict(examples.swag_tensors(CLASSES)),
        "vision.pt": dict(examples.torchvision_model().state_dict()),
        "clip.pt": dict(clips.clip_tensors(40)),
    }


@pytest.mark.parametrize("name", vision_transformers())
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """Two hundred of them over the formats: tensors of other shapes, left out, renamed or added."""
    content = vision_transformers()[name]
    draw = random.Random(name)
    messages: list[str] = []
    for number in range(40):
        state = dict(content.get("model", content))
        for _ in range(draw.choice((1, 1, 2))):
            victim = draw.choice([key for key in state if number % 4 == 0 or ".1." not in key])
            value = state.pop(victim)
            match draw.randrange(6):
                case 0:
                    pass
                case 1:
                    state[draw.choice((f"{victim}.more", "", ".", "model", "encoder.", victim.split(".")[-1]))] = value
                case _:
                    state[victim] = torch.zeros(draw.choice(SHAPES))
        path = tmp_path / f"{number}-{name}"
        torch.save({"model": state} if "model" in content else state, path)
        try:
            import_weights(path, tmp_path / f"out{number}", [*TOLD, "text_heads=2", "decoder_heads=2"])
        except ValueError as error:
            messages.append(str(error))
            assert not (tmp_path / f"out{number}").exists()
    assert len(messages) > 20
    assert not [text for text in messages if "\n" in text or not (name in text or "tokenizer" in text)]
