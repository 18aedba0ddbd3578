"""Texts as embeddings: a small encoder that learns, the large one of Wan, and a cache in front of any.

An embedding is `[B, L, D]`; an empty prompt is what is shown where text is dropped.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from manifests.errors import UserError
from manifests.keys import digest as digest_of

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
UMT5_LENGTH: Final = 512


class TextError(UserError):
    """A text encoder cannot be read, or is none."""


class TextEncoder(Protocol):
    """What turns prompts into embeddings."""

    dim: int
    length: int

    @property
    def digest(self) -> str:
        """Of all that an embedding depends on, but for the prompt."""
        ...

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, L, D]`; what a prompt gives does not depend on the others."""
        ...


class TinyText(nn.Module):
    """Words looked up in a table that learns with the backbone: enough for the sentences of theatre.

    A lower-cased word's row is its SHA-256 modulo `words`; row 0 stands for what lies behind a prompt's end, so the
    empty prompt is `length` times that row: a learned null.

    Args:
        dim: D.
        length: L; words beyond it are not read.
        words: Rows of the table.
        seed: Of the first weights.
    """

    def __init__(self, dim: int = 128, length: int = 24, words: int = 4096, seed: int = 0) -> None:
        super().__init__()
        self.dim, self.length, self.words = dim, length, words
        self.table = nn.Embedding(words, dim)
        self.place = nn.Parameter(torch.empty(length, dim))
        self.norm = nn.LayerNorm(dim)
        drawn = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.table.weight, generator=drawn)
        nn.init.normal_(self.place, std=0.1, generator=drawn)

    @property
    def digest(self) -> str:
        """Of sizes and weights."""
        sums = {name: _sha256(tensor) for name, tensor in self.state_dict().items()}
        return digest_of({"text": "tiny", **self._config(), "weights": sums})

    def rows(self, prompt: str) -> list[int]:
        """Return the table's rows of a prompt, `length` of them."""
        words = [word.strip(".,;:!?\"'()") for word in prompt.lower().split()]
        found = [1 + int(hashlib.sha256(word.encode()).hexdigest(), 16) % (self.words - 1) for word in words if word]
        return (found + [0] * self.length)[: self.length]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, L, D]` on the device of the weights, with gradients."""
        rows = torch.tensor([self.rows(prompt) for prompt in prompts], device=self.place.device)
        return self.norm(self.table(rows) + self.place)  # type: ignore[no-any-return]

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Return `encode(prompts)`."""
        return self.encode(prompts)

    def save(self, folder: str | Path) -> None:
        """Write weights and sizes into a folder that `load` reads."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, path / _WEIGHTS)
        (path / _CONFIG).write_text(json.dumps({"class": "TinyText", **self._config()}, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the encoder of a folder.

        Raises:
            TextError: Something is missing, or is not this class's.
        """
        path = Path(folder)
        try:
            config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
            weights = load_file(path / _WEIGHTS)
            if config.pop("class") != "TinyText":
                raise TextError(f"{path} holds a text encoder of another class; wanted TinyText")
            encoder = cls(**config)
            encoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise TextError(f"{path} holds no text encoder TinyText that can be read: {reason}") from error
        return encoder

    def _config(self) -> dict[str, int]:
        return {"dim": self.dim, "length": self.length, "words": self.words}


class CachedText:
    """An encoder whose embeddings are kept in a folder, so that each prompt is encoded once in all runs."""

    def __init__(self, encoder: TextEncoder, folder: str | Path) -> None:
        self.encoder, self.folder = encoder, Path(folder)
        self.dim, self.length, self.digest = encoder.dim, encoder.length, encoder.digest

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, L, D]`; only prompts that are not in the folder are encoded, one at a time."""
        return torch.stack([self._one(prompt) for prompt in prompts])

    @torch.no_grad()
    def _one(self, prompt: str) -> Tensor:
        name = digest_of({"encoder": self.digest, "prompt": prompt})
        path = self.folder / name[:2] / f"{name}.safetensors"
        try:
            return load_file(path)["text"]
        except (OSError, SafetensorError, KeyError):  # not there yet, or damaged: it is made (again)
            path.parent.mkdir(parents=True, exist_ok=True)
        text = self.encoder.encode([prompt])[0].cpu().contiguous()
        half = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({"text": text}, half)
        half.replace(path)
        return text


class Umt5:
    """Wan's text encoder: UMT5, 512 tokens, zeros behind the prompt's end, as `WanPipeline.encode_prompt` makes them."""

    length = UMT5_LENGTH

    def __init__(self, encoder: nn.Module, tokenizer: object, name: str) -> None:
        self.encoder = encoder.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.dim = int(encoder.config.d_model)  # type: ignore[union-attr,arg-type]
        self._name = name

    @property
    def digest(self) -> str:
        """Of the weights' sums: the file may lie anywhere."""
        sums = {name: float(tensor.double().sum()) for name, tensor in self.encoder.state_dict().items()}
        return digest_of({"text": "umt5", "length": self.length, "sums": sums})

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, 512, D]` on the encoder's device."""
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        tokens = self.tokenizer(  # type: ignore[operator]
            [prompt_clean(prompt) for prompt in prompts], padding="max_length", max_length=self.length,
            truncation=True, add_special_tokens=True, return_attention_mask=True, return_tensors="pt",
        )  # fmt: skip
        device = next(self.encoder.parameters()).device
        mask = tokens.attention_mask.to(device)
        text: Tensor = self.encoder(tokens.input_ids.to(device), mask).last_hidden_state
        return text * mask[..., None].to(text.dtype)


def umt5(folder: str | Path, device: torch.device | str, dtype: torch.dtype = torch.bfloat16) -> Umt5:
    """Return the UMT5 in the folders `text_encoder` and `tokenizer` of a base in diffusers' layout.

    Raises:
        TextError: They are not there, or hold something else.
    """
    from transformers import AutoTokenizer, UMT5EncoderModel

    path = Path(folder)
    try:
        encoder = UMT5EncoderModel.from_pretrained(
            path / "text_encoder", dtype=dtype, use_safetensors=True, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise TextError(f"{path} holds no UMT5 that can be read: {' '.join(str(error).split())}") from error
    return Umt5(encoder.to(device), tokenizer, str(folder))


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
