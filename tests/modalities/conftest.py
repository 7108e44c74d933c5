"""Tiny encoders with random weights, written to folders, and pictures of one's own making."""

from __future__ import annotations

import io
import json
import string
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *string.ascii_lowercase,
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *string.digits,
    ".",
    ":",
    ",",
]


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory) -> Path:
    """A two-layer BERT of width 16 that reads at most 24 tokens."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 512})
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_folder(bert_folder, tmp_path_factory) -> Path:
    """The same BERT in the layout of sentence-transformers, with the first token as the sentence."""
    folder = tmp_path_factory.mktemp("sentence")
    for path in bert_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    write(folder / "modules.json", modules)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    write(folder / "1_Pooling" / "config.json", pooling)
    return folder


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory) -> Path:
    """A two-layer ViT of width 16 for pictures of 32 x 32, with a mean and a deviation that nobody would guess."""
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTModel(config).save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    write(
        folder / "preprocessor_config.json", {**processor, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.7, 0.8, 0.9]}
    )
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A tiny CLIP: texts and pictures into the same 12 numbers."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    tokens = [
        *string.ascii_lowercase,
        *(f"{c}</w>" for c in string.ascii_lowercase),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    write(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    write(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 20})
    torch.manual_seed(2)
    layers = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = CLIPConfig(
        text_config={
            **layers,
            "vocab_size": len(tokens),
            "max_position_embeddings": 20,
            "eos_token_id": len(tokens) - 1,
        },
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    write(folder / "preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", **size})
    return folder


def picture(seed: int, size: tuple[int, int] = (48, 40), mode: str = "RGB", form: str = "PNG") -> bytes:
    """The bytes of a picture of random colour patches."""
    from PIL import Image

    channels = len(Image.new(mode, (1, 1)).getbands())
    patches = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    image = Image.fromarray(patches.squeeze(), mode if channels > 1 else None).resize(size)
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


@pytest.fixture(scope="session")
def make_picture():
    return picture


@pytest.fixture
def items() -> pl.DataFrame:
    """Five items in the order of the item index; the fourth has no text at all."""
    return pl.DataFrame(
        {
            "item": [2, 3, 4, 5, 6],
            "item_id": ["a", "b", "c", "d", "e"],
            "title": ["toy story", "golden eye", "toy story", None, "heat"],
            "genres": ["animation|comedy", "action", "animation|comedy", "", None],
        }
    )
