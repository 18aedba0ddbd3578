"""decord on one file: pictures by index, never silently the wrong ones.

decord decodes on the CPU with one thread. Two of its habits are guarded against here, because both give wrong pictures
without an error. It puts a neighbour where a picture cannot be decoded: `fault_tol` turns that into an error. It
mistakes the decoding order of key frames for their order on screen, so that in files with open groups of pictures a
seek lands elsewhere: `FileReader.seeks_right` finds such files, and they are read straight through. What a decoder
conceals without saying so is looked for by `manifests.inspection`, with a second decoder, before a file is used.
"""

import os
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

EDGE_S: Final = 1e-3  # Matroska rounds times to whole ms: so near before a picture's time, it counts as on screen
STEP: Final = 16  # pictures decoded at once where nobody asks for a number
_REPAIRS_ALLOWED: Final = 1e-9  # share of repaired pictures above which decord raises: none; 0 itself means any number

REASONS: Final = {
    "missing": "there is no such file",
    "empty": "the file has no bytes",
    "too_large": "more bytes than the limit",
    "too_long": "more frames or seconds than the limit",
    "too_many_pixels": "larger pictures than the limit",
    "not_media": "no video container that is known",
    "not_video": "the file is a picture",
    "not_picture": "the file is no picture of a known format",
    "no_video_stream": "a container without a moving picture, such as sound alone",
    "unknown_codec": "a video stream in a coding that is not known",
    "no_frames": "a video stream in which nothing can be decoded",
    "damaged": "a decoder reports errors in the data",
    "truncated": "the file ends before its contents do",
    "size_changes": "the pictures of the file do not all have one size or rotation",
    "odd_rotation": "turned by something else than a multiple of 90 degrees",
    "no_timestamps": "pictures without a time, or with times that do not increase",
    "decoders_disagree": "two decoders do not see the same frames",
    "segment_outside_file": "the segment asks for times that the file does not have",
    "crop_outside_picture": "the crop reaches over the edge of the picture",
    "timeout": "reading took longer than the limit",
    "decoder_crashed": "the decoder took its process down",
    "out_of_memory": "reading needed more memory than the limit",
}


class MediaError(Exception):
    """A file cannot be used: `reason` is one of `REASONS`, `detail` one sentence for the person who asks."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def frames_on_screen(
    times_s: NDArray[np.float64], end_s: float, start_s: float, fps: float, frames: int
) -> NDArray[np.int64]:
    """Return, int64 [frames], which of the pictures shown from `times_s` on is on screen at `start_s + i / fps`.

    The picture is the last one whose time is not more than `EDGE_S` after the instant asked for.

    Raises:
        MediaError: segment_outside_file, if an instant lies before the first picture or at or after `end_s`.
    """
    instants = start_s + np.arange(frames) / fps
    if instants[0] < times_s[0] - EDGE_S or instants[-1] > max(times_s[-1], end_s - EDGE_S) + EDGE_S:
        raise MediaError(
            "segment_outside_file",
            f"the segment shows {instants[0]:.3f} s to {instants[-1]:.3f} s, "
            f"but the file has {times_s[0]:.3f} s to {end_s:.3f} s",
        )
    return np.maximum(np.searchsorted(times_s, instants + EDGE_S, side="right") - 1, 0)


def end_of_last(times_s: NDArray[np.float64], fps: float) -> float:
    """Return when the last picture leaves the screen, seconds: after the mean interval, or 1 / fps if it is alone."""
    if len(times_s) > 1:
        return float(times_s[-1] + (times_s[-1] - times_s[0]) / (len(times_s) - 1))
    return float(times_s[-1] + (1 / fps if 0 < fps < float("inf") else 1 / 25))


class FileReader:
    """decord on one file: `times_s` [N] from the first picture, `end_s`, and `frames` by ascending index."""

    def __init__(self, path: str) -> None:
        import decord

        self._errors = (decord._ffi.base.DECORDError, decord._ffi.base.DECORDLimitReachedError, RuntimeError)
        self.path = path
        # an absolute path cannot be taken for a protocol ("concat:", "http:"), as a relative one can
        self._open: Callable[[], Any] = lambda: decord.VideoReader(
            os.path.abspath(path), ctx=decord.cpu(0), num_threads=1, fault_tol=_REPAIRS_ALLOWED
        )
        if not os.path.isfile(path):
            raise MediaError("missing", f"there is no file {path!r}")
        decord.logging.set_level(decord.logging.QUIET)  # its errors are raised; its log lines are noise
        try:
            self._reader = self._open()
            spans = self._reader.get_frame_timestamp(range(len(self._reader)))
            fps = self._reader.get_avg_fps()
        except (*self._errors, AssertionError) as error:
            raise self._said(error, "not_media") from None
        self.times_s: NDArray[np.float64] = spans[:, 0].astype(np.float64)
        self.end_s = end_of_last(self.times_s, fps)
        self._next = 0  # the picture that decord gives next if it is not made to seek
        self._seeks_right: bool | None = None
        self._padded = False  # decord pads the rows of some narrow pictures, and cannot put such into a batch

    def frames(self, indices: NDArray[np.int64]) -> Pixels:
        """Return the pictures of ascending `indices` [n] as uint8 [n, H, W, 3]; calls ask for ever later ones."""
        straight = indices[0] == self._next and indices[-1] - indices[0] == len(indices) - 1
        if straight or self.seeks_right():
            self._next = int(indices[-1]) + 1
            return self._batch(indices)
        found = []
        while self._next <= indices[-1]:
            step = np.arange(self._next, min(self._next + STEP, int(indices[-1]) + 1))
            found.append(self._batch(step)[np.isin(step, indices)])
            self._next = int(step[-1]) + 1
        return np.concatenate(found)

    def seeks_right(self) -> bool:
        """Say whether each key frame is as manieth on screen as in the file: only then decord's seeks can be trusted.

        decord counts key frames in the order of the file and looks pictures up in the order of the screen. With open
        groups (x265's default) pictures shown before a key frame come after it in the file, and the two differ.
        """
        if self._seeks_right is None:
            import av

            try:
                with av.open(os.path.abspath(self.path), metadata_errors="replace") as file:
                    packets = [(p.pts, p.is_keyframe) for p in file.demux(file.streams.best("video")) if p.size]
            except av.error.InvalidDataError as error:
                raise self._said(error, "damaged") from None
            times = [pts for pts, _ in packets if pts is not None]
            shown = np.argsort(np.argsort(times, kind="stable"), kind="stable")  # rank of each packet's picture
            keys = np.flatnonzero([key for _, key in packets])
            self._seeks_right = len(times) == len(packets) and bool((shown[keys] == keys).all())
        return self._seeks_right

    def _batch(self, indices: NDArray[np.int64]) -> Pixels:
        try:
            if not self._padded:
                pixels: Pixels = self._reader.get_batch(indices).asnumpy()
                return pixels
        except self._errors as error:
            if "size must exactly match" not in str(error):
                raise self._said(error, "damaged") from None
            self._padded, self._reader = True, self._open()  # as new: it may have to be read straight through
        try:
            return np.stack([_unpadded(self._reader[int(index)].asnumpy()) for index in indices])
        except (*self._errors, StopIteration) as error:
            raise self._said(error, "damaged") from None

    def _said(self, error: BaseException, reason: str) -> Exception:
        words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "bad_alloc" in words or "Cannot allocate" in words:
            return MemoryError(words)
        said = "no decodable pictures" if isinstance(error, AssertionError) else words[-200:]
        return MediaError(reason, f"{os.path.basename(self.path)!r} cannot be read: the decoder says {said!r}")


def _unpadded(picture: Pixels) -> Pixels:
    """Undo decord's padding: where a row's bytes are k times the width, it gives [H, W, k] instead of [H, W, 3]."""
    height, width, _ = picture.shape
    rows = picture.reshape(height, -1)[:, : 3 * width]
    return rows.reshape(height, width, 3)
