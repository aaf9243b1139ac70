"""What a client can be told."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from federation.errors import SettingsError
from federation.identifiers import CLIENT_ID_RULE, is_client_id
from federation.runtime.settings import EVERYDAY, HostPorts, RoleSettings, Shown
from federation.runtime.user_folders import user_cache, user_state

SHARD_RULE = "it must be K/N, the K-th of N equal parts, with K from 1 to N, e.g. 1/4"
FETCH_FINAL_RULE = "its name must end in .npz or .h5, which says what is written"
_TRAINER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _new_client_id() -> str:
    return f"client-{secrets.token_hex(4)}"


def _checked_client_id(text: str) -> str:
    if not is_client_id(text):
        raise ValueError(CLIENT_ID_RULE)
    return text


def _checked_fetch_final(path: Path | None) -> Path | None:
    if path is not None and path.suffix not in (".npz", ".h5"):
        raise ValueError(FETCH_FINAL_RULE)
    return path


def parsed_shard(text: str) -> tuple[int, int]:
    """Return (K, N) of ``"K/N"``, 1 <= K <= N, else raise ``ValueError``."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise ValueError(SHARD_RULE)
    return int(part), int(parts)


def _checked_shard(text: str | None) -> str | None:
    if text is not None:
        parsed_shard(text)
    return text


def _checked_trainer(text: str | None) -> str | None:
    if text is not None and not _TRAINER.fullmatch(text):
        raise ValueError("it must be module:factory, e.g. my_trainer:MyTrainer")
    return text


class ClientSettings(RoleSettings):
    """Where to check in, and what to train on or with."""

    role: ClassVar[str] = "client"
    summary: ClassVar[str] = "Check in, train on local data when asked, and report."
    example: ClassVar[str] = "headwater client --selector 127.0.0.1:50051 --data digits --shard 1/4"

    selectors: Annotated[
        HostPorts,
        Field(
            min_length=1,
            description="HOST:PORT of a selector; several are tried in turn.",
        ),
        Shown(everyday=True, flag="--selector"),
    ] = ("127.0.0.1:50051",)
    client_id: Annotated[
        str,
        AfterValidator(_checked_client_id),
        Field(
            description="Name of this client, which counts once a round.",
            default_factory=_new_client_id,
        ),
        Shown(everyday=True, default="client- and 8 random hexadecimal digits"),
    ]
    data: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Data for the built-in Keras trainer: `digits`, or an .npz file; "
            "excludes trainer.",
        ),
        EVERYDAY,
    ] = None
    shard: Annotated[
        str | None,
        AfterValidator(_checked_shard),
        Field(description="K/N: train on the K-th of N parts of the data; without it, on all."),
        EVERYDAY,
    ] = None
    trainer: Annotated[
        str | None,
        AfterValidator(_checked_trainer),
        Field(
            description="module:factory that makes a trainer without arguments; excludes data.",
        ),
        EVERYDAY,
    ] = None
    rounds: Annotated[
        int | None,
        Field(
            ge=1,
            description="Accepted reports after which the client ends; without it, it goes on.",
        ),
        EVERYDAY,
    ] = None
    fetch_final: Annotated[
        Path | None,
        AfterValidator(_checked_fetch_final),
        Field(
            description="FILE.npz or FILE.h5: when the session is over, write the final global "
            "weights there and end. Without data and trainer it only waits for that.",
        ),
        EVERYDAY,
    ] = None
    state: Annotated[
        Path | None,
        Field(
            description="Folder of this client alone, in which it keeps a trained update until "
            "that has its receipt, and the count of accepted reports: a client that is restarted "
            "with the same one goes on where it was.",
        ),
        Shown(
            default="headwater/CLIENT_ID in $XDG_STATE_HOME or in ~/.local/state if client_id is "
            "given, else none"
        ),
    ] = None
    cache: Annotated[
        Path,
        Field(
            description="Folder in which model files are kept; several clients may share it.",
            default_factory=user_cache,
        ),
        Shown(default="headwater in $XDG_CACHE_HOME or in ~/.cache"),
    ]
    cache_bytes_max: Annotated[
        int,
        Field(
            ge=0,
            description="Bytes of the cache; beyond them the files that were not used for longest "
            "are deleted, those in use excepted.",
        ),
    ] = 8 * 2**30
    skew: Annotated[
        float | None,
        Field(
            gt=0,
            le=1e6,
            allow_inf_nan=False,
            description="Parameter of a Dirichlet distribution by which each class is dealt to "
            "the parts of the data: 0.1 very unequal, 100 nearly equal; without it, equal parts "
            "at random.",
        ),
    ] = None
    seed: Annotated[
        int,
        Field(
            ge=0,
            description="Seed of the split and of the training; the same for all clients that "
            "share one data set.",
        ),
    ] = 0

    @property
    def given_client_id(self) -> str | None:
        """The client's name, unless it was made up."""
        return self.client_id if "client_id" in self.model_fields_set else None

    @property
    def state_folder(self) -> Path | None:
        """Where the client keeps what outlives its process, if anywhere."""
        if self.state is not None or self.given_client_id is None:
            return self.state
        return user_state() / self.given_client_id

    @model_validator(mode="after")
    def _one_thing_to_do(self) -> ClientSettings:
        if self.data is not None and self.trainer is not None:
            expected = "trainer is given too: give data (--data) or trainer (--trainer), not both"
            raise SettingsError("data", self.data, expected)
        if self.data is None and self.trainer is None and self.fetch_final is None:
            expected = (
                "give either data (--data digits) or trainer (--trainer module:factory); "
                "fetch_final (--fetch-final FILE) alone takes no part and fetches the result"
            )
            raise SettingsError("data", None, expected)
        return self
