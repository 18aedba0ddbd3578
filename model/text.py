"""Texts as embeddings: a small encoder that learns, the large one of Wan (umt5.py), and a cache in front of any.

An embedding is `[B, L, D]`; an empty prompt is what is shown where text is dropped.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from manifests.errors import UserError
from manifests.keys import digest as digest_of
from model import weights

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_TEXT, _SUM = "text", "sha256"  # in a file of the cache


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
        sums = {name: bytes(_sum(tensor).tolist()).hex() for name, tensor in self.state_dict().items()}
        return digest_of({"text": "tiny", **self._config(), "weights": sums})

    def rows(self, prompt: str) -> list[int]:
        """Return the table's rows of a prompt, `length` of them."""
        words = [word.strip(".,;:!?\"'()") for word in prompt.lower().split()]
        found = [1 + int(hashlib.sha256(word.encode()).hexdigest(), 16) % (self.words - 1) for word in words if word]
        return (found + [0] * self.length)[: self.length]

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, L, D]` on the device of the weights, with gradients."""
        rows = torch.tensor([self.rows(prompt) for prompt in prompts], dtype=torch.long, device=self.place.device)
        rows = rows.reshape(-1, self.length)
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
            UserError: Something is missing, damaged, or not this class's.
        """
        path = Path(folder)
        config = weights.read_json(path / _CONFIG)
        found = config.pop("class", None)
        if found != "TinyText":
            raise TextError(f"{path} holds a text encoder of class {found}; wanted TinyText")
        try:
            encoder = cls(**config)
            state = load_file(path / _WEIGHTS)
            encoder.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise TextError(f"{path} holds no text encoder TinyText that can be read: {reason}") from error
        return encoder

    def _config(self) -> dict[str, int]:
        return {"dim": self.dim, "length": self.length, "words": self.words}


class CachedText:
    """An encoder whose embeddings are kept in a folder, so that each prompt is encoded once in all runs.

    A file holds one prompt's embedding without the zeros behind its end (a sentence of 40 tokens takes 0.3 MB of
    UMT5-XXL's 4), under the digest of encoder and prompt, with the SHA-256 of its bytes. One that is damaged is made
    again. Processes may share a folder: a file is written beside its place and then put there in one step. What comes
    back carries no gradient.

    Args:
        encoder: Run for a prompt that is not in the folder; asked for its digest each time, in case it learns.
        folder: Made when it is first written to.
        device: Where embeddings are returned.
    """

    def __init__(self, encoder: TextEncoder, folder: str | Path, device: torch.device | str = "cpu") -> None:
        self.encoder, self.folder, self.device = encoder, Path(folder), torch.device(device)
        self.dim, self.length = encoder.dim, encoder.length

    @property
    def digest(self) -> str:
        """Of the encoder: a cache changes nothing."""
        return self.encoder.digest

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, L, D]`; prompts that are not in the folder are encoded one at a time, since an encoder's results
        move in the last digits with the batch, and what is kept must not depend on who asked with whom."""
        digest = self.digest
        texts = {prompt: self._one(digest, prompt) for prompt in dict.fromkeys(prompts)}
        if not texts:
            return torch.zeros(0, self.length, self.dim, device=self.device)
        return torch.stack([texts[prompt] for prompt in prompts])

    def _one(self, digest: str, prompt: str) -> Tensor:
        name = digest_of({"encoder": digest, "prompt": prompt})
        path = self.folder / name[:2] / f"{name}.safetensors"
        rows = self._read(path)
        if rows is None:
            text = self.encoder.encode([prompt])[0].detach().cpu()
            full = text.ne(0).any(dim=1).nonzero()
            rows = text[: int(full.max()) + 1 if len(full) else 0].contiguous()
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(f".{uuid.uuid4().hex}.part")
            try:
                half.write_bytes(save({_TEXT: rows, _SUM: _sum(rows)}))
                half.replace(path)
            finally:
                half.unlink(missing_ok=True)
        return pad(rows, (0, 0, 0, self.length - len(rows))).to(self.device)

    def _read(self, path: Path) -> Tensor | None:
        """Return the rows of a file; None if there is none, or it is damaged.

        It is read in one go, not mapped: another process may put its own in its place meanwhile.
        """
        try:
            kept = load(path.read_bytes())
            rows, wanted = kept[_TEXT], kept[_SUM]
        except (FileNotFoundError, SafetensorError, KeyError):
            return None
        fits = rows.ndim == 2 and len(rows) <= self.length and rows.shape[1] == self.dim
        return rows if fits and torch.equal(_sum(rows), wanted) else None


def umt5(source: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16) -> TextEncoder:
    """Return the UMT5 (model/umt5.py) of a base in diffusers' layout.

    Args:
        source: The base's folder, or its hub id, `owner/name` or `owner/name@revision`, of which only the text encoder
            and the tokenizer are fetched.
        device: Where it runs.
        dtype: Of its weights and embeddings.

    Raises:
        TextError: It is not there, or holds something else.
    """
    from model.umt5 import Umt5  # transformers takes seconds to import, and TinyText does without

    if Path(source).is_dir():
        return Umt5(source, device, dtype)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    name, _, revision = str(source).partition("@")
    patterns = [f"text_encoder/*.{ending}" for ending in ("json", "safetensors")] + ["tokenizer/*"]
    try:
        folder = snapshot_download(name, revision=revision or None, allow_patterns=patterns)
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TextError(f"{source} is no folder, and could not be had from the hub: {reason}") from error
    return Umt5(folder, device, dtype)


def _sum(tensor: Tensor) -> Tensor:
    """Return the SHA-256 of a tensor's bytes, `[32]`."""
    plain = tensor.detach().cpu().contiguous().view(torch.uint8)
    return torch.tensor(list(hashlib.sha256(plain.numpy().tobytes()).digest()), dtype=torch.uint8)
