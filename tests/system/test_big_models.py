"""Models beyond 2 GB: fetched by a real client from a real selector, in little memory."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import pytest
from h5py import h5d, h5p, h5s, h5t

from federation.runtime.hdf5 import read_spec
from federation.runtime.initialise import initialise
from headwater.local import BUILTIN
from tests.system.processes import PYTHON, Federation, Process

BIG_BYTES = 3 << 30

TRANSFER_MIB = 64
"""What a file of any size may cost: chunks of 2 MiB, and those that gRPC has under way."""


MEASURING = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(status)
"""
MEASURED = (sys.executable, "-c", MEASURING)
"""Runs a command and prints the most memory that it had at once, in MiB."""


def make_big(model: Path) -> None:
    """Add 3 GB beside a model's weights that nobody wrote: the file takes no room on the disk.

    The checkpoint stays small: whoever holds one has it in memory.
    """
    with h5py.File(model, "r+") as file:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_layout(h5d.CONTIGUOUS)
        plist.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
        space = h5s.create_simple((BIG_BYTES,))
        h5d.create(file.id, b"ballast", h5t.NATIVE_UINT8, space, plist)


def peak_mib(process: Process) -> float:
    """Return the most memory that a running process had at once."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


async def fetch(federation: Federation, selector: Process, output: Path, cache: Path) -> int:
    """Have a client fetch the result; return the most memory that it had, in MiB."""
    client = await federation.start(
        f"client-{output.suffix}",
        [*MEASURED, *PYTHON, "client"],
        selector=selector.address,
        fetch_final=output,
        cache=cache,
    )
    assert await client.end() == 0
    return int(client.printed[-1].removeprefix("peak "))


@pytest.mark.prove
async def test_model_of_3_gb_is_fetched_neither_side_has_it_in_memory(bare: Federation) -> None:
    """Sizes and offsets beyond 2**31, from disk to disk.

    A selector may have ``model_bytes * (2 + reports_in_flight_max) + 8 bytes a parameter`` of
    weights in memory; the model's file is no part of it, on neither side.
    """
    initialise(bare.shared_data, model=None, arrays=None, builtin=BUILTIN)
    make_big(bare.directory.model)
    size = bare.directory.model.stat().st_size
    await bare.coordinator()
    [north] = await bare.selectors("north")
    cache, output = bare.folder / "cache", bare.folder / "result.h5"
    client_mib = await fetch(bare, north, bare.folder / "result.npz", cache)
    selector_mib = peak_mib(north)

    big_client_mib = await fetch(bare, north, output, cache)

    [fetched] = cache.iterdir()
    assert size > BIG_BYTES
    assert fetched.stat().st_size == size
    assert read_spec(output) == read_spec(bare.directory.checkpoint)
    assert big_client_mib < client_mib + TRANSFER_MIB
    assert peak_mib(north) < selector_mib + TRANSFER_MIB
    shutil.rmtree(cache)
