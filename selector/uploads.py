"""The reports that are being received: a limited number of buffers, each tied to one claim."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from federation.chunking import Assembler
from federation.errors import FederationError
from federation.tensors import Buffer
from selector.cohort import Member

HOP_BYTES = 256 << 10
"""Chunks from this size on are hashed on a thread. With ten reports of 10 MB at once the event loop
then waits 2 ms for its turn, instead of 30; a hop costs 0.1 ms."""


@dataclass(eq=False)
class Upload:
    """One permitted report.

    Attributes:
        member: Whose report it is.
        assembler: Its bytes so far; survives a cut stream.
        stream: Rises with each stream that sends it; the newest one counts.
        touched_s: Monotonic seconds of the last byte or permission.
        complete: The end frame was seen.
        freed: The permission was taken back, and its bytes are of no use.
        refusal: Why its report could not be taken here although it was whole.
    """

    member: Member
    assembler: Assembler
    stream: int = 0
    touched_s: float = field(default_factory=time.monotonic)
    complete: bool = False
    freed: bool = False
    refusal: FederationError | None = None
    _adding: asyncio.Future[None] | None = None

    async def add(self, offset: int, data: Buffer) -> None:
        """Take the next chunk; raises ``TransferError``."""
        if len(data) < HOP_BYTES:
            self.assembler.add(offset, data)
            return
        adding = asyncio.ensure_future(asyncio.to_thread(self.assembler.add, offset, data))
        self._adding = adding
        await asyncio.shield(adding)  # a thread cannot be cancelled: see settle

    async def settle(self) -> None:
        """Wait for a chunk that a stream, perhaps a cut one, is still adding."""
        while self._adding is not None and not self._adding.done():
            await asyncio.wait({self._adding})

    def start_over(self, size: int) -> None:
        """Forget the bytes so far: the client has another report, of another size."""
        self.assembler = Assembler(size)
        self.stream += 1


class Uploads:
    """Permissions to send a report.

    Args:
        in_flight_max: Buffers that exist at once; further reports wait.
        stall_s: A permission without bytes for so long is taken back.
    """

    def __init__(self, in_flight_max: int, stall_s: float) -> None:
        self.stall_s = stall_s
        self._slots = asyncio.Semaphore(in_flight_max)
        self._uploads: dict[str, Upload] = {}

    def __len__(self) -> int:
        return len(self._uploads)

    def find(self, token: str) -> Upload | None:
        """Return the permitted report of this claim."""
        return self._uploads.get(token)

    async def permit(self, member: Member, size: int) -> Upload:
        """Wait for a buffer; a report that was cut off keeps the bytes that it has."""
        upload = self._uploads.get(member.token)
        if upload is None:
            await self._slots.acquire()
            upload = self._uploads.get(member.token)
            if upload is None:
                upload = self._uploads[member.token] = Upload(member, Assembler(size))
            else:
                self._slots.release()
        await upload.settle()
        if upload.assembler.size != size and not upload.complete:
            upload.start_over(size)
        upload.touched_s = time.monotonic()
        return upload

    def free(self, upload: Upload) -> None:
        """Give the buffer back; doing it twice is harmless."""
        if self._uploads.get(upload.member.token) is upload:
            del self._uploads[upload.member.token]
            upload.freed = True
            self._slots.release()

    def free_stalled(self) -> list[Upload]:
        """Take back the permissions that were not used for ``stall_s``; return them."""
        limit_s = time.monotonic() - self.stall_s
        stalled = [
            upload
            for upload in self._uploads.values()
            if not upload.complete and upload.touched_s < limit_s
        ]
        for upload in stalled:
            self.free(upload)
        return stalled
