"""Rows of pairs for a judge: small clips that are easily told apart."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from manifests.keys import digest
from manifests.media import Clip, Picture, Video
from tests.clips import stamped, write_clip


def rows(folder: Path, count: int, domain: str | None = "cartoon", first: int = 0) -> list[dict[str, Any]]:
    """Return pair rows of one source and one character, each with a pseudo video of its own colour."""
    film, picture = folder / "source.mp4", folder / "character.png"
    if not film.exists():
        write_clip(film, stamped(12), fps=12)
        Image.new("RGB", (48, 64), (200, 40, 90)).save(picture)
    return [
        {
            "id": f"par_{digest(number)}",
            "source": Clip(str(film), 0.0, 12.0, 12),
            "character": Picture(str(picture)),
            "pseudo": Video(np.full((12, 32, 32, 3), number % 256, np.uint8), 12.0),
            "source_domain": domain,
            "character_domain": "cartoon",
        }
        for number in range(first, first + count)
    ]
