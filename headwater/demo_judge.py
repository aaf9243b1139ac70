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

    async def result(self, record: pb.RoundRecord) -> str:
        """Say in words what a committed round achieved."""
        assert self._trainer is not None, "result() before load()"
        checkpoint = self._directory.history / f"round-{record.round_number:06d}" / "fl_checkpoint"
        metrics = await self._thread.run(
            _evaluated, self._trainer, self._directory.model, checkpoint
        )
        seconds = sum(s for phase, s in record.phase_seconds.items() if phase != "selection")
        return (
            f"Result: {metrics['accuracy']:.1%} of held-out digits right, "
            f"loss {metrics['loss']:.3f} (in training {record.metrics['loss']:.3f}), "
            f"{seconds:.1f} s from Configuration on"
        )


def _trainer() -> KerasTrainer:
    return KerasTrainer(*digits("held-out"))


def _evaluated(trainer: KerasTrainer, model: Path, checkpoint: Path) -> dict[str, float]:
    trainer.load(model)
    return trainer.evaluate(read_weights(checkpoint), *digits("held-out"))
