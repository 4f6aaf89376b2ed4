"""Who writes each company just now, and so how its keys may be removed.

Invariant: keys are removed behind nobody's back: through the vault that holds the company, or where nobody does.
"""

from __future__ import annotations

from standfast.authstate.company import Company
from standfast.postgres.pool import Database, Statement
from standfast.vault.vault import Vault

_HOLDERS = Statement(
    "cleanup.holders",
    """
    select w.company_id, w.node::text, coalesce(n.name, w.node::text),
           coalesce(n.alive_until > clock_timestamp(), false)
    from standfast_writers w left join standfast_nodes n on n.node = w.node where w.node is not null
    """,
)


class Holders:
    """As of `read`. `reason` says why a company's keys stay, or None where they may be removed."""

    def __init__(self, rows: list[tuple[str, str, str, bool]], vault: Vault | None) -> None:
        self._rows = {company: (node, name, alive) for company, node, name, alive in rows}
        self._vault = vault

    @classmethod
    async def read(cls, database: Database, vault: Vault | None) -> Holders:
        rows = await database.fetch(_HOLDERS)
        return cls([(str(a), str(b), str(c), bool(d)) for a, b, c, d in rows], vault)

    def is_ours(self, company: Company) -> bool:
        """Whether this process has it open."""
        holding = self._vault.held.get(company) if self._vault is not None else None
        return holding is not None and holding.is_open and holding.claimed and holding.is_ready

    def reason(self, company: Company) -> str | None:
        if company not in self._rows or self.is_ours(company):
            return None
        _, name, alive = self._rows[company]
        if alive:
            return f"held by the node {name}: its own run removes them"
        return f"the node {name} had it last and is silent: it may have writes that PostgreSQL lacks"
