"""MAWS-CLIP in small: the key and shape table of paper.md 6.1 filled at random, and a forward pass written from it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from support import weights_examples as examples

SENTENCES = (
    "a photo of a dog in the snow",
    "a photo of a red cat",
    "un chien et un chat dans la neige",
    "eine Zeichnung von einem roten Hund",
    "犬の写真と赤い猫",
)
TEXT_WIDTH, TEXT_DEPTH, TEXT_HEADS, JOINT, POSITIONS = 24, 3, 2, 20, 106
GIVEN = [f"heads={examples.HEADS}", f"text_heads={TEXT_HEADS}", "licence=CC-BY-NC-4.0"]
T = "text_encoder.encoder.transformer."
OLDER = {
    "self_attn.in_proj_": "attention.input_projection.",
    "self_attn.out_proj.": "attention.output_projection.",
    "linear1.": "residual_mlp.mlp.0.",
    "linear2.": "residual_mlp.mlp.3.",
    "norm1.": "attention_layer_norm.",
    "norm2.": "final_layer_norm.",
}


def sentencepiece_bytes() -> bytes:
    """A SentencePiece model as XLM-R has one, trained on a few sentences."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(SENTENCES * 4), model_writer=model, vocab_size=70, hard_vocab_limit=False, minloglevel=2
    )
    return model.getvalue()


def fairseq_vocabulary(model: Any) -> list[str]:
    """The tokens of XLM-R in the order of their ids, as fairseq and MAWS's vocabulary file list them."""
    pieces = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    return ["<s>", "<pad>", "</s>", "<unk>", *(p for p in pieces if p not in ("<unk>", "<s>", "</s>")), "<mask>"]


def clip_tensors(vocabulary: int, *, older: bool = False) -> dict[str, Tensor]:
    d, generator = TEXT_WIDTH, torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "vision_projection": (examples.WIDTH, JOINT),
        "text_projection": (d, JOINT),
        f"{T}token_embedding.weight": (vocabulary, d),
        f"{T}positional_embedding.embedding.weight": (POSITIONS, d),
        **{f"{T}embedding_layer_norm.{kind}": (d,) for kind in ("weight", "bias")},
    }
    for i in range(TEXT_DEPTH):
        at = f"{T}layers.layers.{i}."
        shapes |= {f"{at}self_attn.in_proj_weight": (3 * d, d), f"{at}self_attn.in_proj_bias": (3 * d,)}
        shapes |= {f"{at}self_attn.out_proj.weight": (d, d), f"{at}self_attn.out_proj.bias": (d,)}
        shapes |= {f"{at}linear1.weight": (4 * d, d), f"{at}linear1.bias": (4 * d,)}
        shapes |= {f"{at}linear2.weight": (d, 4 * d), f"{at}linear2.bias": (d,)}
        shapes |= {f"{at}{norm}.{kind}": (d,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
    text = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    image = {f"vision_encoder.{name}": value for name, value in examples.maws_tensors().items()}
    return image | ({older_name(name): value for name, value in text.items()} if older else text)


def older_name(name: str) -> str:
    if "layers.layers." not in name:
        return name
    for newer, old in OLDER.items():
        name = name.replace(newer, old)
    return name.replace("layers.layers.", "layers.")


def clip_folder(folder: Path, *, older: bool = False, tokenizer: str = "xlmr.sentencepiece.bpe.model") -> Path:
    """The weights and, beside them, the tokenizer; the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    content = sentencepiece_bytes()
    (folder / tokenizer).write_bytes(content)
    torch.save(clip_tensors(vocabulary(content), older=older), folder / "vit_x_xlmr_x.pt")
    return folder / "vit_x_xlmr_x.pt"


def vocabulary(content: bytes) -> int:
    return len(fairseq_vocabulary(processor(content)))


def processor(content: bytes) -> Any:
    model: Any = sentencepiece.SentencePieceProcessor()
    model.load_from_serialized_proto(content)
    return model


def plain_ids(content: bytes, text: str, context: int = 100) -> list[int]:
    """As MAWS's tokenizer: pieces, looked up in the vocabulary, cut, start and end added, filled up to the length."""
    model = processor(content)
    number = {piece: index for index, piece in enumerate(fairseq_vocabulary(model))}
    pieces = [number.get(piece, 3) for piece in model.encode_as_pieces(text)][:context]
    return [0, *pieces, 2, *[1] * (context - len(pieces))]


def plain_text(t: dict[str, Tensor], ids: list[int]) -> Tensor:
    """Features of one text, token by token and head by head: post-norm, exact GELU, epsilon 1e-5, padding left out.

    Padding is cut off instead of masked: no real token looks at it.
    """
    real = [number for number in ids if number != 1]
    rows = [
        t[f"{T}token_embedding.weight"][number] + t[f"{T}positional_embedding.embedding.weight"][2 + place]
        for place, number in enumerate(real)
    ]
    x = examples.plain_norm(torch.stack(rows), t, f"{T}embedding_layer_norm", 1e-5)
    size = TEXT_WIDTH // TEXT_HEADS
    for i in range(TEXT_DEPTH):
        at = f"{T}layers.layers.{i}."
        qkv = x @ t[f"{at}self_attn.in_proj_weight"].T + t[f"{at}self_attn.in_proj_bias"]
        mixed = []
        for head in range(TEXT_HEADS):
            q, k, v = (qkv[:, p * TEXT_WIDTH + head * size : p * TEXT_WIDTH + (head + 1) * size] for p in range(3))
            mixed.append(torch.softmax(q @ k.T / math.sqrt(size), dim=-1) @ v)
        y = torch.cat(mixed, dim=-1) @ t[f"{at}self_attn.out_proj.weight"].T + t[f"{at}self_attn.out_proj.bias"]
        x = examples.plain_norm(x + y, t, f"{at}norm1", 1e-5)
        y = x @ t[f"{at}linear1.weight"].T + t[f"{at}linear1.bias"]
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        y = y @ t[f"{at}linear2.weight"].T + t[f"{at}linear2.bias"]
        x = examples.plain_norm(x + y, t, f"{at}norm2", 1e-5)
    return x


def plain_embed_image(t: dict[str, Tensor], image: Tensor) -> Tensor:
    encoder = {
        name.removeprefix("vision_encoder."): value for name, value in t.items() if name.startswith("vision_encoder.")
    }
    return _unit(examples.plain_forward(encoder, image)[:, 0] @ t["vision_projection"])


def plain_embed_text(t: dict[str, Tensor], content: bytes, texts: Sequence[str]) -> Tensor:
    first = torch.stack([plain_text(t, plain_ids(content, text))[0] for text in texts])
    return _unit(first @ t["text_projection"])


def _unit(x: Tensor) -> Tensor:
    return x / x.square().sum(dim=-1, keepdim=True).sqrt()
