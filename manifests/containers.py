"""Where a film's container ends by its own word: a file that ends before that was cut off."""

import os
import struct
from typing import BinaryIO


def end_of(file: BinaryIO) -> int | None:
    """Return the byte at which the contents of a container end by its own word; None for one not known here.

    ISO/IEC 14496-12, 4.2 (boxes: size, type; size 1: 64 bits follow; 0: to the end), RIFF (size after the name), and
    EBML (RFC 8794: the size's length is the number of leading zero bits; all ones: unknown).
    """
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if head[:4] == b"RIFF":
        return 8 + int(struct.unpack("<I", head[4:8])[0])
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _end_of_ebml(file)
    if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return None
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int(struct.unpack(">I", head[:4])[0])
        if length == 1 and len(head) == 16:
            length = int(struct.unpack(">Q", head[8:])[0])
        if length == 0:
            return size
        if length < 8:
            return at
        at += length
    return max(at, size)


def _end_of_ebml(file: BinaryIO) -> int | None:
    at = 0
    for wanted in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # the header, then the segment: all there is
        file.seek(at)
        head = file.read(12)
        if head[:4] != wanted or len(head) < 5 or head[4] == 0:
            return None
        length = 9 - head[4].bit_length()
        number = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
        if number == (1 << 7 * length) - 1:
            return None
        at += 4 + length + number
    return at
