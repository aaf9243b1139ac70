"""Headwater: hierarchical federated learning. Many small streams, one river.

The public face: subclass :class:`Trainer`, or take :class:`KerasTrainer`, and run rounds with
:class:`LocalFederation` or with the ``headwater`` command. Importing it imports no TensorFlow.
"""

from __future__ import annotations

from client.keras_trainer import KerasTrainer
from client.trainer import Trainer, TrainingResult, TrainingStopped, TrainingTask
from coordinator.record import RoundOutcome
from federation.errors import (
    FederationError,
    PeerError,
    SettingsError,
    StoreError,
    TransferError,
    UpdateRejected,
)
from federation.plan import Hyperparameters, RoundPlan
from headwater.local import LocalFederation

__all__ = [
    "FederationError",
    "Hyperparameters",
    "KerasTrainer",
    "LocalFederation",
    "PeerError",
    "RoundOutcome",
    "RoundPlan",
    "SettingsError",
    "StoreError",
    "Trainer",
    "TrainingResult",
    "TrainingStopped",
    "TrainingTask",
    "TransferError",
    "UpdateRejected",
]
