"""UMT5 as Wan uses it, from the folders `text_encoder` and `tokenizer` of a base in diffusers' layout."""

import html
import importlib
import importlib.util
import re
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer, UMT5EncoderModel
from transformers import __version__ as transformers

from manifests.keys import digest as digest_of
from manifests.keys import sha256_of_file
from model import weights
from model.text import TextError

LENGTH: Final = 512  # what Wan's transformer was trained with
# Wan's pipeline mends prompts with ftfy where it is installed, and not elsewhere
_mend = importlib.import_module("ftfy").fix_text if importlib.util.find_spec("ftfy") else None
_MENDER: Final = None if _mend is None else version("ftfy")


class Umt5:
    """Wan's text encoder: UMT5, 512 tokens, zeros behind the prompt's end, as `WanPipeline.encode_prompt` makes them.

    Its weights are read when the first prompt is encoded: behind a `CachedText` that knows all prompts, never.

    Args:
        folder: Of a base in diffusers' layout; its parts `text_encoder` and `tokenizer` are used.
        device: Of the encoder, and of what it returns.
        dtype: Of the weights (but for those that transformers keeps in float32), and of what it returns.

    Raises:
        TextError: They are not there, or hold something else.
    """

    length = LENGTH

    def __init__(self, folder: str | Path, device: torch.device | str, dtype: torch.dtype) -> None:
        self.folder, self.device, self.dtype = Path(folder), torch.device(device), dtype
        config = weights.read_json(self.folder / "text_encoder" / "config.json")
        if config.get("model_type") != "umt5" or not isinstance(config.get("d_model"), int):
            raise TextError(f"{self.folder}/text_encoder is of type {config.get('model_type')}; wanted a whole umt5")
        if not self._files("text_encoder", "*.safetensors") or not self._files("tokenizer", "*"):
            raise TextError(
                f"{self.folder} lacks the weights of text_encoder as safetensors (pickles are not read), or the "
                "tokenizer; fetch both parts of the base"
            )
        self.dim: int = config["d_model"]

    @cached_property
    def digest(self) -> str:
        """Of the files of both parts, byte for byte, the dtype, and the ftfy that mends prompts: some seconds, once."""
        files = [*self._files("text_encoder", "*.json"), *self._files("text_encoder", "*.safetensors")]
        sums = {str(f.relative_to(self.folder)): sha256_of_file(f) for f in files + self._files("tokenizer", "*")}
        return digest_of(
            {"text": "umt5", "length": self.length, "dtype": str(self.dtype), "ftfy": _MENDER, "files": sums}
        )

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return `[B, 512, D]`. Words beyond 512 tokens are not read.

        Raises:
            TextError: The weights or the tokenizer cannot be read.
        """
        if not prompts:
            return torch.zeros(0, self.length, self.dim, dtype=self.dtype, device=self.device)
        encoder, tokenizer = self._model
        tokens = tokenizer(
            [clean(prompt) for prompt in prompts], padding="max_length", max_length=self.length,
            truncation=True, add_special_tokens=True, return_attention_mask=True, return_tensors="pt",
        ).to(self.device)  # fmt: skip
        with torch.autocast(self.device.type, enabled=False):  # a cache must not depend on who asked
            text: Tensor = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return text.to(self.dtype).masked_fill(tokens.attention_mask[..., None] == 0, 0)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.folder / "tokenizer", local_files_only=True, trust_remote_code=False
            )
            encoder, info = cast(
                tuple[Any, dict[str, Any]],
                UMT5EncoderModel.from_pretrained(
                    self.folder / "text_encoder", dtype=self.dtype, use_safetensors=True, local_files_only=True,
                    output_loading_info=True,
                ),
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise TextError(f"{self.folder} holds no UMT5 that can be read: {reason}") from error
        if info["missing_keys"]:  # transformers would draw them at random
            raise TextError(
                f"the weights in {self.folder}/text_encoder lack {min(info['missing_keys'])}"
                f" ({len(info['missing_keys'])} are missing); fetch them again"
            )
        table, used = encoder.shared.weight, encoder.encoder.embed_tokens.weight
        if used.data_ptr() != table.data_ptr() and not torch.equal(used, table):
            raise TextError(  # transformers 5.0 and 5.1 left it at zeros for Wan's configs, without a word
                f"the token embedding of {self.folder}/text_encoder was not read by transformers {transformers}; use "
                "the version in requirements.lock"
            )
        return encoder.to(self.device).eval().requires_grad_(False), tokenizer

    def _files(self, part: str, pattern: str) -> list[Path]:
        return sorted(path for path in (self.folder / part).glob(pattern) if path.is_file())


def clean(prompt: str) -> str:
    """Return a prompt as Wan's pipeline cleans it: mended by ftfy where that is installed, without HTML entities
    (undone twice), and every run of white space one space."""
    mended = _mend(prompt) if _mend is not None else prompt
    plain = html.unescape(html.unescape(mended)).strip()
    return re.sub(r"[^\S\x1c-\x1f]+", " ", plain).strip()  # white space as the module `regex` has it, which Wan uses
