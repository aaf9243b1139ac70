"""A long run of bytes cut into chunks, and chunks put together to what was declared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from federation.errors import TransferError
from federation.tensors import Buffer

CHUNK_BYTES = 2**20
LARGE_CHUNK_BYTES = 2 * 2**20
LARGE_MODEL_BYTES = 64 * 2**20

CHUNK_BYTES_MIN = 2**15
"""Smaller ones help nobody: HTTP/2's first window is twice as large."""

SHRINK = 8
"""By so much smaller chunks are tried where larger ones do not come through."""

CHUNK_S = 4.0
"""Seconds that a chunk may take; a connection on which nothing is heard for longer is asked for a
sign of life, which then waits behind the chunk."""


def chunk_bytes_for(total_bytes: int) -> int:
    """Return the chunk size that was measured best for a transfer of ``total_bytes``."""
    return LARGE_CHUNK_BYTES if total_bytes >= LARGE_MODEL_BYTES else CHUNK_BYTES


class ChunkLimit:
    """How large a chunk one client's link carries, as far as that is known.

    A chunk counts once it is whole, and a link too slow for it is given up before it is: a try
    that ends where it began is followed by one with smaller chunks. A transfer that went well says
    how large they may be.

    Attributes:
        bytes: Size of the largest chunk that may be sent.
    """

    def __init__(self) -> None:
        self.bytes = LARGE_CHUNK_BYTES
        self._try: tuple[object, ...] = ()

    def begin(self, *this_try: object) -> int:
        """Note that a transfer is tried, and return the size of the largest chunk.

        Args:
            this_try: What is sent, to whom, and from which offset on.
        """
        if this_try == self._try:
            self.bytes = max(self.bytes // SHRINK, CHUNK_BYTES_MIN)
        self._try = this_try
        return self.bytes

    def went(self, count: int, seconds: float) -> None:
        """Note that a try went to the end of its transfer.

        Args:
            count: Bytes that it carried.
            seconds: How long it took.
        """
        self._try = ()
        in_time = int(CHUNK_S * count / max(seconds, 1e-3))
        self.bytes = max(self.bytes, min(in_time, LARGE_CHUNK_BYTES))


def chunks(
    buffer: Buffer, *, offset: int = 0, chunk_bytes: int
) -> Iterator[tuple[int, memoryview]]:
    """Cut ``buffer`` from ``offset`` on, without copying.

    Args:
        buffer: Contiguous bytes.
        offset: Where the receiver wants to resume.
        chunk_bytes: Size of each chunk but the last, above 0.

    Returns:
        Each chunk's offset in the buffer and its bytes; nothing if ``offset`` is the end.

    Raises:
        TransferError: ``"offset-out-of-range"``, at once.
    """
    assert chunk_bytes > 0
    view = memoryview(buffer).cast("B")
    if not 0 <= offset <= len(view):
        raise TransferError(
            f"bytes from {offset} on were asked for, but there are {len(view)}",
            reason="offset-out-of-range",
        )
    return (
        (start, view[start : start + chunk_bytes])
        for start in range(offset, len(view), chunk_bytes)
    )


class Verifier:
    """One transfer of a declared size, checked chunk by chunk; its bytes are kept elsewhere.

    A cut transfer resumes: the sender goes on from ``received``. An error leaves everything as
    it was.

    Attributes:
        size: Bytes declared.
        received: Bytes so far, and the offset that the next chunk must have.
        chunks: Chunks so far, over all resumptions.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.reset()

    def reset(self) -> None:
        """Begin again at byte 0, as after a wrong digest."""
        self.received = 0
        self.chunks = 0
        self._hash = hashlib.sha256()

    def check(self, offset: int, data: Buffer) -> memoryview:
        """Return the next chunk's bytes, to be kept and then taken; changes nothing.

        Raises:
            TransferError: ``"empty-chunk"`` (it would keep a stalled transfer alive),
                ``"chunk-out-of-order"`` or ``"more-bytes-than-declared"``.
        """
        view = memoryview(data).cast("B")
        end = self.received + len(view)
        if offset != self.received:
            raise TransferError(
                f"a chunk begins at byte {offset}, but byte {self.received} is next",
                reason="chunk-out-of-order",
            )
        if not view:
            raise TransferError(f"the chunk at byte {offset} is empty", reason="empty-chunk")
        if end > self.size:
            raise TransferError(
                f"a chunk ends at byte {end}, but {self.size} bytes were declared",
                reason="more-bytes-than-declared",
            )
        return view

    def take(self, view: memoryview) -> None:
        """Count and hash a chunk that was checked, or bytes that were kept from an earlier try."""
        self._hash.update(view)
        self.received += len(view)
        self.chunks += 1

    def finish(self, *, chunks: int, size: int, sha256: bytes) -> None:
        """Check all that arrived against what the sender says it sent.

        Args:
            chunks: Chunks sent, over all resumptions, each counted once.
            size: Bytes sent.
            sha256: Digest of all bytes, 32 bytes.

        Raises:
            TransferError: ``"truncated"``: bytes are missing, and the transfer can resume.
                ``"more-bytes-than-declared"``: the sender says it sent more than it declared.
                ``"wrong-chunk-count"``, ``"wrong-digest"``: start over after ``reset``.
        """
        if size > self.size:
            raise TransferError(
                f"the sender sent {size} bytes, but declared {self.size}",
                reason="more-bytes-than-declared",
            )
        if size != self.size or self.received != self.size:
            raise TransferError(
                f"{self.received} bytes arrived and {size} were sent, "
                f"but {self.size} were declared",
                reason="truncated",
            )
        if chunks != self.chunks:
            raise TransferError(
                f"{self.chunks} chunks arrived, but {chunks} were sent",
                reason="wrong-chunk-count",
            )
        if sha256 != self._hash.digest():
            raise TransferError(
                f"the sha256 of the {size} bytes that arrived is {self._hash.hexdigest()}, "
                f"but {sha256[:32].hex()} was sent",
                reason="wrong-digest",
            )


class Assembler(Verifier):
    """One transfer of a declared size, put together in one buffer.

    Attributes:
        buffer: As long as declared; what it holds is verified once ``finish`` has returned.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        # Not a bytearray: that is zeroed at once, which stops everything else for a second a GB.
        self.buffer = np.empty(size, np.uint8).data

    def add(self, offset: int, data: Buffer) -> None:
        """Take the next chunk; raises ``TransferError`` as ``check`` does."""
        view = self.check(offset, data)
        self.buffer[offset : offset + len(view)] = view
        self.take(view)
