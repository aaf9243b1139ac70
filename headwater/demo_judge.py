"""How well a checkpoint of the demo knows the digits that no client has seen."""

from __future__ import annotations

from pathlib import Path

from client.data import digits
from client.keras_trainer import KerasTrainer
from client.trainer import TrainerThread
from federation.runtime.hdf5 import read_weights
from federation.runtime.store import SharedDirectory
from federation.v1 import control_pb2 as pb


class DemoJudge:
    """Evaluates checkpoints, on a thread of its own.

    Args:
        directory: Where the checkpoints are, and the Keras model that they belong to.
    """

    def __init__(self, directory: SharedDirectory) -> None:
        self._directory = directory
        self._thread = TrainerThread("judge")
        self._trainer: KerasTrainer | None = None

    async def load(self) -> None:
        """Load TensorFlow, which takes seconds."""
        self._trainer = await self._thread.run(_trainer)

    async def metrics(self, record: pb.RoundRecord) -> dict[str, float]:
        """Return the loss and accuracy of a committed round's checkpoint."""
        assert self._trainer is not None, "metrics() before load()"
        checkpoint = self._directory.past_checkpoint(record.round_number)
        return await self._thread.run(_evaluated, self._trainer, self._directory.model, checkpoint)


def _trainer() -> KerasTrainer:
    return KerasTrainer(*digits("held-out"))


def _evaluated(trainer: KerasTrainer, model: Path, checkpoint: Path) -> dict[str, float]:
    trainer.load(model)
    return trainer.evaluate(read_weights(checkpoint), *digits("held-out"))
