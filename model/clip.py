"""The embedding of a picture that Wan2.1 takes from image to video: CLIP, hidden states of its last layer but one."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from manifests.keys import digest
from model.weights import WeightsError, digest_of


class ImageEncoder:
    """CLIP's vision tower and its own resizing and normalising, as `WanImageToVideoPipeline.encode_image` uses them."""

    def __init__(self, model: CLIPVisionModel, processor: CLIPImageProcessorPil) -> None:
        self.model = model.requires_grad_(False).eval()
        self.dim: int = model.config.hidden_size
        self.processor = processor

    @property
    def digest(self) -> str:
        """Of the weights and of how pictures are resized and normalised."""
        return digest([digest_of(self.model), self.processor.to_json_string()])

    @classmethod
    def load(cls, folder: Path, device: torch.device | str) -> Self:
        """Return the encoder in the `image_encoder` and `image_processor` of a base's folder, in float32.

        Raises:
            WeightsError: A part is missing, or its weights are not those of its config.
        """
        for part, name in (("image_encoder", "config.json"), ("image_processor", "preprocessor_config.json")):
            if not (folder / part / name).is_file():
                raise WeightsError(
                    f"{folder / part / name} is missing, and this base takes an embedding of the picture"
                )
        model, report = CLIPVisionModel.from_pretrained(
            folder / "image_encoder",
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        if report["missing_keys"] or report["mismatched_keys"]:
            first = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[0]
            raise WeightsError(f"the weights in {folder / 'image_encoder'} lack {first}, or have it in another shape")
        processor = CLIPImageProcessorPil.from_pretrained(folder / "image_processor", local_files_only=True)
        return cls(model.to(device), processor)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Return `[B, tokens, D]` float32 of pictures `[B, 3, H, W]` in [-1, 1].

        They pass through 8 bits a channel, since CLIP's processor resizes pictures, not tensors.
        """
        bytes_ = ((pictures.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = list(bytes_.permute(0, 2, 3, 1).cpu().numpy())
        pixels = self.processor(images=arrays, return_tensors="pt")["pixel_values"].to(self.model.device)
        hidden: Tensor = self.model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        return hidden.float()

    def save(self, folder: Path) -> None:
        """Write `image_encoder` and `image_processor` into a base's folder."""
        self.model.save_pretrained(folder / "image_encoder")
        self.processor.save_pretrained(folder / "image_processor")
