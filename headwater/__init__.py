"""Headwater: hierarchical federated learning. Many small streams, one river.

The public face: subclass :class:`Trainer`, and run rounds with :class:`LocalFederation` or with
the ``headwater`` command.
"""

from __future__ import annotations

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
