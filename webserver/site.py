"""What all routes of the webserver share: the database, the present, the rules of access."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federation.phases import Phase
from webserver import queries
from webserver.access import Access
from webserver.board import Update
from webserver.counters import LAST_UPDATE
from webserver.database import Database
from webserver.downloads import Downloads
from webserver.live import Checkpoints, Live
from webserver.store import Store, page_key


@dataclass(frozen=True)
class Site:
    """One webserver.

    Attributes:
        database: What it remembers.
        store: How updates are remembered.
        live: What is the case now.
        downloads: The checkpoints that it can give.
        access: Who may do what.
        secret: Signs the updates; empty: they need no signature.
        coordinator: HOST:PORT of the coordinator that it controls; None: it controls none.
    """

    database: Database
    store: Store
    live: Live
    downloads: Downloads
    access: Access
    secret: str
    coordinator: str | None
    _order: asyncio.Lock

    async def take(self, update: Update) -> bool:
        """Remember an update and show it; False: it was a duplicate.

        Raises:
            StoreError: It was not remembered, so that its sender must send it again.
        """
        heard_s = time.time()
        async with self._order:  # who watches sees updates in the order in which they were taken
            taken = await self.database.write(
                lambda connection: self.store.take(connection, update, heard_s)
            )
            if taken is None:
                return False
            checkpoints = None
            if update.kind == "stage" and update.facts["round"]["stage"] == Phase.COMPLETED:
                checkpoints = await self._checkpoints(update.federation_id)
            self.live.show(taken, checkpoints)
        LAST_UPDATE.set(heard_s)
        return True

    async def restore(self) -> None:
        """Show what was the case when an earlier process ended.

        Raises:
            StoreError: The database cannot be read.
        """
        pictures = await self.database.read(queries.pictures)
        self.live.restore(
            [(picture, await self._checkpoints(picture.federation_id)) for picture in pictures]
        )

    async def _checkpoints(self, federation_id: str) -> Checkpoints:
        found = await self.database.read(
            lambda connection: queries.checkpoints(connection, federation_id)
        )
        return await self.downloads.marked(found)


async def open_site(
    database: Database,
    store: Store,
    downloads: Downloads,
    rules: Mapping[str, Any],
    *,
    secret: str,
    coordinator: str | None,
) -> Site:
    """Put a site together of what the database remembers.

    Args:
        database: Opened.
        store: How updates are remembered.
        downloads: The checkpoints that it can give.
        rules: The fields of ``Access``, apart from the key.
        secret: As in ``Site``.
        coordinator: As in ``Site``.

    Raises:
        StoreError: The database cannot be read or written.
    """
    access = Access(**rules, page_key=await database.write(page_key))
    control = {
        "possible": coordinator is not None and access.control_is_possible,
        "needs_token": bool(access.control_token),
    }
    live = Live(control, await database.read(queries.last_event_id))
    site = Site(database, store, live, downloads, access, secret, coordinator, asyncio.Lock())
    await site.restore()
    return site
