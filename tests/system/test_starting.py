"""What a role needs to start: what is wrong is named, and no server needs TensorFlow."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.v1 import control_pb2 as pb
from tests.system.processes import HOST, PYTHON, WITHOUT_TENSORFLOW, Federation

CLIENT_ROLE = "-client"
"""For ``without_tensorflow.py``: a client that can see that TensorFlow is not installed."""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another process listens on."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("role", ["coordinator", "selector"])
async def test_port_is_in_use_the_server_says_so(
    federation: Federation, taken: int, role: str
) -> None:
    """Exit status 2 is the operator's to mend, and the message says what and how."""
    server = await federation.start(
        role, [*PYTHON, role], shared_data=federation.shared_data, port=taken
    )

    status = await server.end()

    assert status == 2
    message = server.log[-1]  # gRPC has its own word before
    assert message.startswith(f"{role}: port = '{HOST}:{taken}'")
    assert "another --port" in message
    assert message.endswith("(port-in-use)")


@pytest.mark.parametrize("role", ["coordinator", "selector"])
async def test_shared_directory_is_missing_the_server_names_it_and_headwater_init(
    bare: Federation, role: str
) -> None:
    """A mount that is not there must not look like a new, empty federation."""
    missing = bare.folder / "nowhere"
    server = await bare.start(role, [*PYTHON, role], shared_data=missing, port=0)

    status = await server.end()

    assert status == 2
    (message,) = server.log
    assert message.startswith(f"{role}: shared_data = '{missing}' from flag --shared-data")
    assert "headwater init" in message
    assert message.endswith("(shared-directory-unusable)")
    assert not missing.exists()


async def test_shared_directory_is_empty_the_coordinator_names_headwater_init(
    bare: Federation,
) -> None:
    """Nothing to start from is an error, never a model made up."""
    bare.shared_data.mkdir()
    coordinator = await bare.start(
        "coordinator", [*PYTHON, "coordinator"], shared_data=bare.shared_data, port=0
    )

    status = await coordinator.end()

    assert status == 2
    (message,) = coordinator.log
    assert f"headwater init --shared-data {bare.shared_data}" in message
    assert list(bare.shared_data.iterdir()) == []


async def test_setting_is_wrong_the_role_names_it_where_it_came_from_and_what_would_be_right(
    bare: Federation,
) -> None:
    """One line, not a traceback."""
    environment = {"HEADWATER_MIN_REPORTS": "9"}
    coordinator = await bare.start(
        "coordinator", [*PYTHON, "coordinator"], environment, goal_count=4
    )

    status = await coordinator.end()

    assert status == 2
    (message,) = coordinator.log
    assert message == (
        "coordinator: min_reports = 9 from environment HEADWATER_MIN_REPORTS is wrong: "
        "it must be a whole number from 1 to goal_count, which is 4 (impossible-plan)"
    )


async def test_trainer_module_does_not_import_the_client_says_why(bare: Federation) -> None:
    """A typing error in a trainer is the operator's, not a crash of ours."""
    client = await bare.start("client", [*PYTHON, "client"], trainer="tests.system.absent:Mine")

    status = await client.end()

    assert status == 2
    (message,) = client.log
    assert message.startswith("client: trainer = 'tests.system.absent:Mine' from flag --trainer")
    assert "ModuleNotFoundError: No module named 'tests.system.absent'" in message
    assert message.endswith("(trainer-import-failed)")


async def test_tensorflow_is_missing_for_data_the_client_says_how_to_install_it(
    bare: Federation,
) -> None:
    """A plain install has no TensorFlow; who needs it is told the extra's name."""
    client = await bare.start("client", [*WITHOUT_TENSORFLOW, CLIENT_ROLE], data="digits")

    status = await client.end()

    assert status == 2
    (message,) = [line for line in client.log if line.startswith("client:")]
    assert "data" in message
    assert "pip install 'headwater[client]'" in message
    assert message.endswith("(tensorflow-missing)")


async def test_tensorflow_cannot_be_imported_servers_and_numpy_clients_do_not_notice(
    federation: Federation,
) -> None:
    """The servers need h5py and numpy alone, also to start from a Keras model."""
    keras_model = Path(__file__).parent.parent.parent / "headwater" / "digits.h5"
    federation.directory.model.write_bytes(keras_model.read_bytes())
    federation.directory.checkpoint.unlink()
    command = WITHOUT_TENSORFLOW
    coordinator = await federation.coordinator(command, goal_count=1, rounds=1)
    (selector,) = await federation.selectors("north", command=command)
    client = await federation.client("client-1", selector, command=command, rounds=1)

    record = await federation.completed(1)
    status = await client.end()
    ends = []
    for server in (selector, coordinator):
        server.terminate()
        await server.end()
        ends.append(server.logged("ended")[0]["modules"])

    assert record.outcome == pb.OUTCOME_COMMITTED
    assert status == 0
    assert ends == [[], []]
    assert [process.logged("imported") for process in federation.all] == [[], [], []]
