"""`Holders`: who else has a company, where that can be known.

Invariant: it looks and changes nothing, and answers within its patience; not knowing is no failure.
"""

from __future__ import annotations

import asyncio

import structlog

from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.postgres.pool import Database, Statement
from standfast.sessions.gateway import Gateway
from standfast.vault.outage import State
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
PATIENCE_S = 1.5
_OTHER_NODE = Statement(
    "writers.other_node",
    "select n.name from standfast_writers w join standfast_nodes n on n.node = w.node"
    " where w.company_id = $1 and n.node <> $2::uuid and n.alive_until > now()",
)


class Holders:
    """Looks at the leases in PostgreSQL, then at this gateway's connections."""

    def __init__(self, database: Database, vault: Vault, gateway: Gateway) -> None:
        self._database = database
        self._vault = vault
        self._gateway = gateway

    async def find(self, company: Company) -> str | None:
        """In words that end a sentence; None where it must be a client that nobody here knows."""
        if self._vault.outage.state is State.OUTAGE:
            return "another client of WhatsApp, or another node (PostgreSQL, which would know, is away)"
        node = await self._other_node(company)
        if node is not None:
            return f"the node {node}"
        if self._gateway.holder_role(company) == "auth-state":
            return "a bot that is connected to this node's gateway"
        return None

    async def _other_node(self, company: Company) -> str | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                rows = await self._database.fetch(_OTHER_NODE, [company, self._vault.replica.node])
        except (TimeoutError, StandfastError) as error:
            log.warning("who has a company could not be looked up", company=company, reason=str(error))
            return None
        return str(rows[0][0]) if rows else None
