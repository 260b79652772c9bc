"""Export of both towers to open_clip: a folder for ``open_clip.create_model("local-dir:DIR")``.

open_clip's image tower has no bias before the positions, so that the bias of the patches is added to these. Its text
tower is XLM-R of transformers, with the ids of the tokenizer's own file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from underpaint import files
from underpaint.models.formats.key_patterns import Recognised
from underpaint.models.ngram_tower import NgramConfig
from underpaint.models.pieces import Derived, Info, Tensors, write_pieces
from underpaint.models.text_tower import TextConfig
from underpaint.texts.tokenizer import JsonTokenizer, TextTokenizer, open_tokenizer
from underpaint.texts.tokens import PAD
from underpaint.weights.export_model import ExportModel, Tool, largest, plain_input
from underpaint.weights.transformers_tokenizer import write_tokenizer

ONE_FILE = 2**63
"""open_clip reads a single file."""
POOLERS = {"first": "cls_last_hidden_state_pooler", "mean": "mean_pooler"}
TEXT = "text.transformer."
TEXTS = ("a photo of a dog.", "", "犬とneige, 123 — ﬁne  x", "word " * 400)
"""Texts that open_clip's tokenizer must make the same ids of."""
IMAGE_BLOCK = {
    "norm1": "ln_1",
    "attn.qkv": "attn.in_proj_",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
TEXT_BLOCK = {
    "attn.proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm2": "output.LayerNorm",
}
KINDS = ("weight", "bias")


def _refusal(recognised: Recognised) -> str:
    c = recognised.encoder
    if recognised.text is None:
        return "open_clip takes models for images and texts; name a run of LiT or an imported MAWS-CLIP"
    if isinstance(recognised.text, NgramConfig):
        return "open_clip has transformers for texts, this network a tower of n-grams; take safetensors or onnx"
    if not c.final_norm:
        return "open_clip has a norm after its image tower, this network none"
    if c.view != "stretch" and c.crop_share != 1:
        return f"open_clip resizes the short side to {c.size[0]}, this network sees {c.crop_share:g} of it"
    return plain_input(recognised, tool="open_clip")


def _write(folder: Path, subject: ExportModel) -> None:
    tokenizer = open_tokenizer(subject.folder)
    tensors = _tensors(subject, tokenizer)
    write_pieces(folder, tensors, limit=ONE_FILE)
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
    settings = {"model_cfg": _model(subject), "preprocess_cfg": _preprocessing(subject.recognised)}
    files.write_json(folder / "open_clip_config.json", settings)
    files.write_json(folder / "config.json", _text_config(subject, tokenizer, tensors))
    write_tokenizer(folder, tokenizer, subject.recognised.tokens)


def _model(subject: ExportModel) -> dict[str, Any]:
    c, recognised = subject.recognised.encoder, subject.recognised
    bias = {} if subject.logit_bias is None else {"init_logit_bias": subject.logit_bias}
    return {
        "embed_dim": recognised.joint_width,
        **bias,
        "vision_cfg": {
            "image_size": c.size[0],
            "patch_size": c.patch,
            "width": c.width,
            "layers": c.depth,
            "head_width": c.width // c.heads,
            "mlp_ratio": float(c.mlp_ratio),
            "no_ln_pre": True,
            "norm_kwargs": {"eps": c.norm_eps},
        },
        "text_cfg": {
            "context_length": subject.recognised.tokens,
            "hf_model_name": ".",
            "hf_model_pretrained": False,
            "hf_tokenizer_name": ".",
            "hf_proj_type": "linear",
            "hf_pooler_type": POOLERS[recognised.text_pooling],
        },
    }


def _preprocessing(recognised: Recognised) -> dict[str, Any]:
    c = recognised.encoder
    mode = "squash" if c.view == "stretch" else "shortest"
    return {"mean": list(c.mean), "std": list(c.std), "interpolation": c.interpolation, "resize_mode": mode}


def _text_config(subject: ExportModel, tokenizer: TextTokenizer, tensors: Tensors) -> dict[str, Any]:
    """The config of XLM-R, as transformers reads it."""
    text = subject.recognised.text
    assert isinstance(text, TextConfig)
    return {
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaModel"],
        "vocab_size": text.vocabulary,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.mlp_ratio * text.width,
        "hidden_act": "gelu",
        "layer_norm_eps": text.norm_eps,
        "max_position_embeddings": tensors.info[f"{TEXT}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": 1,
        "pad_token_id": _numbers(tokenizer)[PAD],
    }


def _numbers(tokenizer: TextTokenizer) -> list[int]:
    """The ids of the tokenizer's own file, by ours."""
    return tokenizer.order if isinstance(tokenizer, JsonTokenizer) else list(range(tokenizer.vocabulary))


def _tensors(subject: ExportModel, tokenizer: TextTokenizer) -> Tensors:
    """All tensors by open_clip's names, each made when it is read."""
    stored, c, text = subject.tensors, subject.recognised.encoder, subject.recognised.text
    assert isinstance(text, TextConfig)
    read = stored.read
    numbers = _numbers(tokenizer)
    numbers += range(len(numbers), text.vocabulary)  # embeddings to spare
    shift = numbers[PAD] - PAD  # transformers counts positions from the id of padding on
    positions, width, tokens = text.positions + shift, text.width, c.num_patches + 1

    def image_positions() -> Tensor:
        position = read("encoder.pos_embed")[0].clone()
        position[1:] += read("encoder.patch_embed.proj.bias")
        return position

    def words() -> Tensor:
        return torch.empty(text.vocabulary, width).index_copy(0, torch.tensor(numbers), read("text.token_embed.weight"))

    def text_positions() -> Tensor:
        position = read("text.pos_embed.weight")
        return position[-shift:] if shift <= 0 else torch.cat([torch.zeros(shift, width), position])

    made: dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]] = {
        "visual.class_embedding": ((c.width,), lambda: read("encoder.cls_token")[0, 0]),
        "visual.positional_embedding": ((tokens, c.width), image_positions),
        f"{TEXT}embeddings.word_embeddings.weight": ((text.vocabulary, width), words),
        f"{TEXT}embeddings.position_embeddings.weight": ((positions, width), text_positions),
        f"{TEXT}embeddings.token_type_embeddings.weight": ((1, width), lambda: torch.zeros(1, width)),
        "text.proj.weight": ((subject.recognised.joint_width, width), lambda: read("text_projection").T),
    }
    if subject.logit_bias is not None:
        bias = torch.tensor(subject.logit_bias)
        made["logit_bias"] = ((), lambda: bias)
    for theirs, ours in _renamed(c.depth, text.depth).items():
        made[theirs] = (stored.info[ours].shape, lambda ours=ours: read(ours))
    for i in range(text.depth):
        for part, name in enumerate(("query", "key", "value")):
            for kind in KINDS:
                ours = f"text.blocks.{i}.attn.qkv.{kind}"
                shape = (width, *stored.info[ours].shape[1:])
                theirs = f"{TEXT}encoder.layer.{i}.attention.self.{name}.{kind}"
                made[theirs] = (shape, lambda ours=ours, part=part: read(ours).chunk(3)[part])
    info = {name: Info(shape, torch.float32) for name, (shape, _) in made.items()}
    return Derived(info, lambda name: made[name][1]().float().contiguous())


def _renamed(depth: int, text_depth: int) -> dict[str, str]:
    """Our names of the tensors that stay as they are, by open_clip's."""
    names = {
        "logit_scale": "logit_scale",
        "visual.proj": "image_projection",
        "visual.conv1.weight": "encoder.patch_embed.proj.weight",
    }
    for kind in KINDS:
        names[f"visual.ln_post.{kind}"] = f"encoder.norm.{kind}"
        names[f"{TEXT}embeddings.LayerNorm.{kind}"] = f"text.norm.{kind}"
        for i in range(depth):
            for ours, theirs in IMAGE_BLOCK.items():
                stem = theirs if theirs.endswith("_") else f"{theirs}."
                names[f"visual.transformer.resblocks.{i}.{stem}{kind}"] = f"encoder.blocks.{i}.{ours}.{kind}"
        for i in range(text_depth):
            for ours, theirs in TEXT_BLOCK.items():
                names[f"{TEXT}encoder.layer.{i}.{theirs}.{kind}"] = f"text.blocks.{i}.{ours}.{kind}"
    return names


@torch.no_grad()
def _compare(folder: Path, subject: ExportModel) -> tuple[float, float]:
    """The largest difference and value of embeddings and scale; the ids of TEXTS must be equal."""
    import open_clip

    settings = files.read_json(folder / "open_clip_config.json")["model_cfg"]
    text_settings = {**settings["text_cfg"], "hf_model_name": str(folder)}
    theirs: Any = open_clip.create_model(f"local-dir:{folder}", text_cfg=text_settings).eval()
    their_tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours, tokenizer, image = subject.load_towers(), open_tokenizer(subject.folder), subject.images()
    texts = [their_tokenizer.clean_fn(text) for text in TEXTS]
    ids = tokenizer(texts, context=subject.recognised.tokens - 2, length=subject.recognised.tokens)
    their_ids = their_tokenizer(list(TEXTS))
    if not torch.equal(their_ids, torch.tensor(_numbers(tokenizer))[ids]):
        wrong = next(text for text, a, b in zip(TEXTS, their_ids, ids, strict=True) if not torch.equal(a, b))
        raise ValueError(f"{tokenizer.file} gives other ids in transformers, such as for {wrong[:40]!r}")
    pairs = [
        largest(theirs.encode_image(image, normalize=True), ours.embed_image(image)),
        largest(theirs.encode_text(their_ids, normalize=True), ours.embed_text(ids)),
        largest(theirs.logit_scale, subject.tensors.read("logit_scale")),
    ]
    return max(difference for difference, _ in pairs), max(size for _, size in pairs)


def _usage(_: ExportModel) -> str:
    return """import json, open_clip

text_cfg = json.load(open("DIR/open_clip_config.json"))["model_cfg"]["text_cfg"] | {"hf_model_name": "DIR"}
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:DIR", text_cfg=text_cfg)
tokenizer = open_clip.get_tokenizer("local-dir:DIR")
image = model.eval().encode_image(preprocess(picture)[None], normalize=True)
text = model.encode_text(tokenizer(["a photo of a dog."]), normalize=True)"""


TOOL = Tool(
    name="open_clip",
    packages=("open_clip", "transformers"),
    tolerance=1e-5,
    refusal=_refusal,
    write=_write,
    compare=_compare,
    usage=_usage,
    texts=True,
)
