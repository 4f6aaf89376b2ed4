"""What a drill on the running installation would do, and whether it may.

Invariant: it asks and changes nothing. Who is neither the test company nor the test contact is touched by no step of
the plan; where that cannot be kept there is no plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from standfast.authstate.company import Company, company_id
from standfast.errors import Conflict, SessionNotOpen, UsageError
from standfast.messaging.addresses import without_device
from standfast.service.client import Client
from standfast.service.records import Status
from standfast.sessions.phone import address, masked, number_of
from standfast.settings import Settings


@dataclass(frozen=True, slots=True)
class HerePlan:
    """`own`: the contact is the company's own chat."""

    company: Company
    contact: str = field(repr=False)
    outage_s: float
    own: bool
    node_name: str

    @property
    def told(self) -> str:
        """What WhatsApp sees of it, before anybody agrees."""
        to = "its own chat" if self.own else f"the contact {masked(self.contact)}"
        return (
            f"For {self.company} alone PostgreSQL counts as away for {self.outage_s:g} s; the server runs on, and no "
            f"other company is touched. WhatsApp sees three messages of {self.company} to {to}, and one reconnect."
        )


async def plan_here(
    client: Client, settings: Settings, company: str | None, contact: str | None, outage_s: float
) -> HerePlan:
    """`UsageError` where no company is named, `SessionNotOpen` where it is not open, `Conflict` where a real outage
    goes on, or where another company of this installation would be written to."""
    named = company or settings.drill_company
    if not named:
        raise UsageError(
            "a drill on the running installation needs a test company",
            next_step="Name it with --company, or set STANDFAST_DRILL_COMPANY. Never take one that customers write to.",
        )
    chosen, status = company_id(named), await client.status()
    _refuse_outage(status)
    session = next((one for one in status.sessions if one.company == chosen), None)
    if session is None or not session.is_open or session.jid is None:
        raise SessionNotOpen(
            f"the session of {chosen} is not open at this node",
            next_step=f"Start it: standfast start {chosen}",
        )
    own = without_device(session.jid)
    wanted = address(contact, settings.default_region) if contact else own
    for other in status.sessions:
        if other.company != chosen and other.jid and number_of(other.jid) == number_of(wanted):
            raise Conflict(
                f"the contact is {other.company}, which runs here as well: a drill touches no other company",
                next_step="Name a contact that no company here answers for.",
            )
    return HerePlan(chosen, wanted, outage_s, wanted == own, str(status.vault["node"]["name"]))


def _refuse_outage(status: Status) -> None:
    vault = status.vault
    if vault.get("detached"):
        raise Conflict(
            "this node stands on files: that is an emergency, not a time for a drill",
            next_step="Go back first: standfast emergency to-postgres",
        )
    if vault.get("state") != "online":
        raise Conflict(
            "PostgreSQL is away, or has just been: this outage is real",
            next_step="See 'standfast runbook'; make the drill once 'standfast status' says online.",
        )
