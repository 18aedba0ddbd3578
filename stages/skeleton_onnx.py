"""An ONNX graph that takes pictures, in whatever batches it allows."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stages.weights import WeightsError

Device = Literal["auto", "cpu", "cuda"]
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_TYPES: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# the default measures every algorithm anew for each new size of a batch
_CUDA_OPTIONS: Final = {"cudnn_conv_algo_search": "HEURISTIC"}


class Graph:
    """A graph with one input [N, 3, H, W]. Outputs are float32 but for integers, which stay what they are.

    `batch` is the size of batches that the graph is fixed at, None if it takes any. `size_px` is (H, W): what the graph
    says, else `usual_px`.
    """

    def __init__(self, path: Path, device: Device, usual_px: tuple[int, int]) -> None:
        """Load the graph.

        Raises:
            WeightsError: the file is no ONNX graph, or one of another kind; or CUDA is wanted and cannot be had.
        """
        self.path = path
        self.session = _session(path, device)
        inputs = self.session.get_inputs()
        shape = list(inputs[0].shape) if inputs else []
        colours = shape[1] if len(shape) == 4 else 0
        if len(inputs) != 1 or (isinstance(colours, int) and colours != 3):
            found = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise WeightsError(f"{path} takes {found or 'nothing'}, wanted one input of pictures [N, 3, H, W]")
        if inputs[0].type not in _TYPES:
            raise WeightsError(f"{path} takes {inputs[0].type}, wanted tensor(float) or tensor(float16)")
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self.batch: int | None = shape[0] if isinstance(shape[0], int) else None
        height, width = (known if isinstance(known, int) else usual_px[i] for i, known in enumerate(shape[2:]))
        self.size_px: tuple[int, int] = (height, width)
        if self.batch is None and not self._takes_many():
            self.batch = 1

    def chunks(self, total: int, most: int) -> Iterator[slice]:
        """Give the parts in which `total` pictures are best run: as many at once as the graph allows, at most `most`
        if it allows any number."""
        step = self.batch or most
        for start in range(0, total, step):
            yield slice(start, min(start + step, total))

    def _takes_many(self) -> bool:
        """Say whether a batch of two gives two rows: some exports name a free axis and have 1 written further in."""
        try:
            self(np.zeros((2, 3, *self.size_px), np.float32))
        except (WeightsError, *_BROKEN):
            return False
        return True

    def __call__(self, pictures: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Run a chunk [n, 3, H, W]; each output has n rows. A chunk too short for a fixed batch is filled with zeros.

        Raises:
            WeightsError: an output has no row for each picture.
        """
        count = len(pictures)
        missing = (self.batch or count) - count
        if missing > 0:
            pictures = np.concatenate([pictures, np.zeros((missing, *pictures.shape[1:]), pictures.dtype)])
        outputs = self.session.run(None, {self._input: pictures.astype(self._type, copy=False)})
        for output in outputs:
            if output.ndim == 0 or len(output) != len(pictures):
                raise WeightsError(f"{self.path} gives {list(output.shape)} for a batch of {len(pictures)} pictures")
        kinds = [np.float32 if output.dtype.kind == "f" else output.dtype for output in outputs]
        return [output[:count].astype(kind, copy=False) for output, kind in zip(outputs, kinds, strict=True)]


def _session(path: Path, device: Device) -> Any:
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = _threads()
    options.inter_op_num_threads = 1
    offered = onnxruntime.get_available_providers()
    if device == "cuda" and _CUDA not in offered:
        raise WeightsError(
            f"device is cuda, but onnxruntime {onnxruntime.__version__} here offers {', '.join(offered)}: put "
            "onnxruntime-gpu in its place (pip uninstall onnxruntime; pip install onnxruntime-gpu), or set device: cpu"
        )
    providers: list[Any] = [_CPU]
    if device != "cpu" and _CUDA in offered:
        onnxruntime.preload_dlls()  # CUDA and cuDNN out of pip's packages or torch's, if they lie there
        providers = [(_CUDA, _CUDA_OPTIONS), _CPU]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _BROKEN as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path} cannot be loaded as an ONNX graph ({reason}); fetch it again") from error
    if device == "cuda" and session.get_providers()[0] != _CUDA:  # it falls back to the CPU with a log line alone
        raise WeightsError(
            "device is cuda, but onnxruntime could not start CUDA and took the CPU: see what it wrote to the log (a "
            "driver or cuDNN is missing as a rule), or set device: cpu"
        )
    return session


_BROKEN: Final = tuple(
    getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)
    for name in (
        "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
        "RuntimeException",
    )
)  # fmt: skip


def _threads() -> int:
    """Return how many threads a graph may use: OMP_NUM_THREADS, which onnxruntime itself does not heed and Ray sets
    for each worker; 0, which is a thread a core, if it is not set."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() else 0


def first_shape(outputs: Sequence[NDArray[Any]]) -> str:
    """Return the shapes of outputs for a message."""
    return ", ".join(str(list(output.shape)) for output in outputs)
