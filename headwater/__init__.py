"""Headwater: hierarchical federated learning. Many small streams, one river.

The public face: subclass :class:`Trainer`, or take :class:`KerasTrainer`, and run rounds with
:class:`LocalFederation` or with the ``headwater`` command. A name is imported when it is first
used, so that the command starts at once; importing all of them imports no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "client.keras_trainer": ("KerasTrainer",),
    "client.trainer": ("Trainer", "TrainingResult", "TrainingStopped", "TrainingTask"),
    "coordinator.record": ("RoundOutcome",),
    "federation.errors": (
        *("FederationError", "PeerError", "SettingsError"),
        *("StoreError", "TransferError", "UpdateRejected"),
    ),
    "federation.plan": ("Hyperparameters", "RoundPlan"),
    "headwater.local": ("LocalFederation",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its home; from then on it is an ordinary attribute."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
