"""A small cut made by the real packer, and what it was made of."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.geometry import Geometry
from pipeline.packing import pack
from tests import pack_samples

SIZE = Geometry(16, 16, 9, 4, 8)  # 16 x 16 px, 9 frames at 8 a second, of which 4 are the prefix
FRAMES = (14, 22)  # of even and odd sources at 10 a second: 12 and 18 frames at 8 a second
KINDS = ["reverse", "forward", "self"]


@dataclass(frozen=True)
class SmallCut:
    """A root with a cut `main`, and its sources, characters and pairs in the order in which they were made."""

    root: Path
    small: pack_samples.Small

    def copy(self, folder: Path) -> Path:
        """Return the root of a copy of the cut alone, to be damaged."""
        shutil.copytree(self.root / "shards", folder / "shards")
        return folder

    def source(self, row: str) -> int:
        """Return the number of the source of a row (a pair, or the source itself)."""
        if row in self.small.sources:
            return self.small.sources.index(row)
        return self.small.pairs.index(row) // len(self.small.characters)

    def film(self, number: int) -> np.ndarray:
        """Return the true frames of a source, uint8 `[T, H, W, 3]`."""
        return pack_samples.frames_of(number, FRAMES[number % 2])[2:-2]

    def pseudo(self, row: str) -> np.ndarray:
        """Return the true frames of a pair's pseudo video."""
        return pack_samples.pseudo_of(self.small.pairs.index(row), FRAMES[self.source(row) % 2])


def make(folder: Path, sources: int = 4, characters: int = 3, kinds: list[str] = KINDS) -> SmallCut:
    """Pack a small root."""
    small = pack_samples.make(folder, sources, characters, FRAMES)
    summary = pack(small.run(pack={"samples_per_shard": 3, "kinds": kinds}))
    assert summary.problems == []
    return SmallCut(small.root, small)


def tars(root: Path, kind: str = "") -> list[Path]:
    """Return the tars of the cut `main`, or those of one kind."""
    return sorted((root / "shards/main").glob(f"{kind}*.tar"))
