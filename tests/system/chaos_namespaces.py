"""Two network namespaces joined by a wire that this process is: it can lose packets, and be down.

Each namespace has one end of the wire, a TUN device, and nothing else; whatever a process in one
sends to the other comes through here, packet by packet, so that TCP itself meets the loss. Needs
root and /dev/net/tun; where they may not be had the test is skipped and says so. Only namespaces
that were made here are touched, and they are deleted in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import socket
import struct
import subprocess
from pathlib import Path
from typing import Self

import pytest

ADDRESSES = ("10.77.0.1", "10.77.0.2")
"""Of the two namespaces; nobody outside them can reach these."""

_TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PACKET_BYTES_MAX = 1 << 16
_PACKETS_AT_ONCE = 64


class Apart:
    """Two namespaces, numbered 0 and 1, and the wire between them.

    Args:
        seed: Of the packets that are lost.

    Attributes:
        loss: Part of the packets that does not arrive, in each direction.
        lost: Packets that did not.
    """

    def __init__(self, seed: int = 0) -> None:
        self.loss = 0.0
        self.lost = 0
        self._random = random.Random(seed)
        self._names = [f"headwater-{os.getpid()}-{side}" for side in "ab"]
        self._devices = [f"hw-{os.getpid()}-{side}" for side in "ab"]
        self._ends: list[int] = []
        self._cleaning = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        try:
            for name, device, address in zip(self._names, self._devices, ADDRESSES, strict=True):
                self._make(name, device, address)
        except BaseException:
            self._cleaning.close()
            raise
        loop = asyncio.get_running_loop()
        for end, other in (self._ends, reversed(self._ends)):
            loop.add_reader(end, self._carry, end, other)
            self._cleaning.callback(loop.remove_reader, end)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._cleaning.close()

    def prefix(self, side: int) -> tuple[str, ...]:
        """Return what comes before the command of a process that is to run on this side."""
        return ("ip", "netns", "exec", self._names[side])

    def cut(self) -> None:
        """Take the wire's device down on both sides: their kernels know it."""
        self._set("down")

    def mend(self) -> None:
        """Bring it up again."""
        self._set("up")

    async def dial(self, side: int, port: int) -> socket.socket:
        """Return a connection to a server on this side, made there: a socket stays where it was."""
        dialled = await asyncio.to_thread(_socket_in, Path("/run/netns", self._names[side]))
        try:
            await asyncio.get_running_loop().sock_connect(dialled, (ADDRESSES[side], port))
        except OSError:
            dialled.close()
            raise
        return dialled

    def _make(self, name: str, device: str, address: str) -> None:
        _do("ip", "netns", "add", name)
        self._cleaning.callback(_do, "ip", "netns", "del", name)
        end = _open_tun(device)
        self._cleaning.callback(os.close, end)
        self._ends.append(end)
        _do("ip", "link", "set", device, "netns", name)
        _do("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
        for one in ("lo", device):
            _do("ip", "-n", name, "link", "set", one, "up")

    def _set(self, state: str) -> None:
        for name, device in zip(self._names, self._devices, strict=True):
            _do("ip", "-n", name, "link", "set", device, state)

    def _carry(self, end: int, other: int) -> None:
        # What the other side cannot take, because its queue is full or it is down, is lost, too.
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = os.read(end, _PACKET_BYTES_MAX)
            except OSError:
                return
            if self._random.random() < self.loss:
                self.lost += 1
                continue
            with contextlib.suppress(OSError):
                os.write(other, packet)


def _open_tun(device: str) -> int:
    try:
        end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        pytest.skip(f"{_TUN} may not be used here: {error}")
    try:
        flags = _IFF_TUN | _IFF_NO_PI
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", device.encode(), flags))
    except OSError as error:
        os.close(end)
        pytest.skip(f"no TUN device may be made here: {error}")
    return end


def _socket_in(namespace: Path) -> socket.socket:
    """Make a socket in a namespace; this thread alone goes there, and comes back."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as ours, namespace.open() as theirs:
        _enter(libc, theirs.fileno())
        try:
            made = socket.socket()
        finally:
            _enter(libc, ours.fileno())
    made.setblocking(False)
    return made


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _do(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} here")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{' '.join(command)} is not allowed here: {error.stderr.strip()}")
