"""Every error that Standfast raises on purpose.

Each carries the facts, the next step for the operator and whether a retry can help, has a stable `code`
(the wire and JSON name) and its own process exit code. Invariant: no message holds a secret.
"""

from __future__ import annotations

from typing import Any, ClassVar


class StandfastError(Exception):
    """Base of all errors. `str(error)` is the message; `next_step` says what to do now.

    `retryable` is true where the same call may succeed later without anybody's doing.
    `facts` are short JSON-able values (never key material, passwords or phone numbers).
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    default_next_step: ClassVar[str] = (
        "Look at the service log; report it with the output of 'standfast config'."
    )

    def __init__(self, message: str, *, next_step: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step or self.default_next_step
        self.facts = facts

    def as_wire(self) -> dict[str, Any]:
        """The JSON form that crosses the gateway and the HTTP API."""
        wire: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "next_step": self.next_step,
            "retryable": self.retryable,
        }
        if self.facts:
            wire["facts"] = self.facts
        return wire


class UsageError(StandfastError):
    """A wrong argument, id, phone number or file given by the caller."""

    code = "usage"
    exit_code = 2
    default_next_step = "Correct the argument and try again; '--help' shows what is accepted."


class SettingsError(StandfastError):
    """A setting is missing, malformed or contradicts another."""

    code = "settings"
    exit_code = 3
    default_next_step = "Correct the setting; 'standfast config' shows each value with its source."


class DatabaseUnavailable(StandfastError):
    """PostgreSQL cannot be reached or did not answer within its deadline. Never an absence."""

    code = "database_unavailable"
    exit_code = 4
    retryable = True
    default_next_step = "Check that PostgreSQL runs and is reachable with these settings: 'standfast config'."


class DatabaseRejected(StandfastError):
    """PostgreSQL answered and refused: password, rights, missing database, schema, constraint."""

    code = "database_rejected"
    exit_code = 5
    default_next_step = "Correct the account, database name or rights; then 'standfast migrate'."


class CompanyUnknown(StandfastError):
    """PostgreSQL confirmed that the company has no auth state."""

    code = "company_unknown"
    exit_code = 6
    default_next_step = (
        "Pair it: 'standfast pair COMPANY'; 'standfast sessions' lists the companies there are."
    )


class CompanyInUse(StandfastError):
    """The company's auth state is held by another client, session or node."""

    code = "company_in_use"
    exit_code = 7
    default_next_step = "Stop the other holder first; two holders of one company evict each other."


class SessionNotOpen(StandfastError):
    """The company's session is not connected to WhatsApp, so nothing can be sent."""

    code = "session_not_open"
    exit_code = 8
    retryable = True
    default_next_step = "See its state with 'standfast sessions'; pair or restart it."


class ServiceUnavailable(StandfastError):
    """No Standfast service listens at the gateway socket, or it did not answer in time."""

    code = "service_unavailable"
    exit_code = 9
    retryable = True
    default_next_step = "Start it with 'standfast up', or name its state directory with STANDFAST_STATE_DIR."


class StateDirectoryError(StandfastError):
    """The state directory is in use, owned by someone else, or cannot be written."""

    code = "state_directory"
    exit_code = 10
    default_next_step = (
        "Choose another directory with STANDFAST_STATE_DIR, or stop the service that holds it."
    )


class PortInUse(StandfastError):
    """An address that Standfast was told to listen on is taken."""

    code = "port_in_use"
    exit_code = 11
    default_next_step = "Stop the program that holds the port, or choose another."


class NodeError(StandfastError):
    """Node.js is missing, too old, lacks the bridge's packages, or the Node host does not start."""

    code = "node"
    exit_code = 12
    default_next_step = "Install Node.js 20 or newer (or 'make setup'), or point NODE_BINARY at it."


class AuthStateCorrupt(StandfastError):
    """Stored auth state exists and cannot be read as what it should be. Never served, never overwritten."""

    code = "auth_state_corrupt"
    exit_code = 13
    default_next_step = "Keep the damaged copy and restore the company from a backup or an export."


class ProtocolError(StandfastError):
    """A peer on the gateway broke the protocol: malformed JSON, oversized frame, unknown method."""

    code = "protocol"
    exit_code = 14
    default_next_step = "See docs/protocol.md; update the client to the service's protocol version."


class PairingFailed(StandfastError):
    """WhatsApp refused the pairing or it was not completed in time."""

    code = "pairing_failed"
    exit_code = 15
    retryable = True
    default_next_step = "Try again with 'standfast pair COMPANY'; after a refusal wait some minutes."


class SendFailed(StandfastError):
    """WhatsApp or the session refused a message that was handed over."""

    code = "send_failed"
    exit_code = 16
    retryable = True
    default_next_step = "See the session's state with 'standfast sessions' and send again."


class GraceExpired(StandfastError):
    """PostgreSQL is away for longer than the grace period: a new connection is not opened from the replica."""

    code = "grace_expired"
    exit_code = 17
    retryable = True
    default_next_step = (
        "Bring PostgreSQL back; where this is the only node, OUTAGE_GRACE=unlimited and a restart open it."
    )


class JournalUnwritable(StandfastError):
    """A write cannot be made durable on this machine, so it was not taken."""

    code = "journal_unwritable"
    exit_code = 18
    retryable = True
    default_next_step = "Free or add disk space for the state directory, or make it writable."


class Conflict(StandfastError):
    """The same name stands for something else already: an idempotency key, a token, a webhook, a company's number."""

    code = "conflict"
    exit_code = 19
    default_next_step = "Choose another name, or look at what has it."


class TargetFailed(StandfastError):
    """An address outside, a webhook's or that of a file, did not answer as it should."""

    code = "target_failed"
    exit_code = 20
    retryable = True
    default_next_step = "Check the URL and what runs behind it."


class NotFound(StandfastError):
    """What was named does not exist: a message, a token, a path."""

    code = "not_found"
    exit_code = 24
    default_next_step = "Check the name or id."


class Unauthorized(StandfastError):
    """No token, or one that is not known, was revoked or has expired."""

    code = "unauthorized"
    exit_code = 21
    default_next_step = (
        "Send 'Authorization: Bearer TOKEN'; 'standfast tokens create' makes one, 'tokens list' shows them."
    )


class Forbidden(StandfastError):
    """The token, or the place where the request comes from, does not allow it."""

    code = "forbidden"
    exit_code = 22
    default_next_step = (
        "Use a token with the scope and the company; 'standfast tokens list' shows what each may do."
    )


class TooManyRequests(StandfastError):
    """Asked for too often; nothing was done."""

    code = "too_many_requests"
    exit_code = 23
    retryable = True
    default_next_step = "Wait a minute, then try again."


class BackupFailed(StandfastError):
    """No backup was made, or one could not be stored; earlier ones are as they were."""

    code = "backup_failed"
    exit_code = 25
    retryable = True
    default_next_step = "Mend what it names, then: standfast backup run"


class BackupDamaged(StandfastError):
    """A backup, its manifest or a segment of the change log is not what was written, or not for this version."""

    code = "backup_damaged"
    exit_code = 26
    default_next_step = "Use another one: 'standfast backup list' shows which are good."


class ClientToolsMismatch(StandfastError):
    """PostgreSQL's client programs are missing, or of a version that cannot serve this server."""

    code = "client_tools"
    exit_code = 27
    default_next_step = (
        "Install the client package of the server's version, or name it in STANDFAST_PG_BIN_DIR."
    )


class JobRunning(StandfastError):
    """The same job runs already, here or on another node; nothing was done."""

    code = "job_running"
    exit_code = 28
    retryable = True
    default_next_step = "Wait until it has ended: 'standfast schedule' shows it."


class RemoteFailed(StandfastError):
    """A place for copies cannot be reached, refused, or gave back something else than it was given."""

    code = "remote_failed"
    exit_code = 29
    retryable = True
    default_next_step = "Check the remote's URL, account and room; the copy on this machine is not touched."


class RestoreRefused(StandfastError):
    """A restore would overwrite what is newer, belongs to somebody else, or cannot be put back; nothing was done."""

    code = "restore_refused"
    exit_code = 30
    default_next_step = "See the plan: standfast backup restore NAME --dry-run"


class EmergencyRefused(StandfastError):
    """A switch to files or back would lose or overwrite something, or makes no sense just now; nothing was done."""

    code = "emergency_refused"
    exit_code = 31
    default_next_step = "See how this node stands: standfast emergency status"


class EmergencyFailed(StandfastError):
    """A switch to files or back did not come to its end; what was begun is undone, or goes on by running it again."""

    code = "emergency_failed"
    exit_code = 32
    retryable = True
    default_next_step = "See how this node stands: standfast emergency status"


class DrillFailed(StandfastError):
    """A drill was made, and not all that it tried holds."""

    code = "drill_failed"
    exit_code = 33
    default_next_step = "See what does not hold: standfast drill show"


BY_CODE: dict[str, type[StandfastError]] = {
    cls.code: cls
    for cls in (
        StandfastError,
        UsageError,
        SettingsError,
        DatabaseUnavailable,
        DatabaseRejected,
        CompanyUnknown,
        CompanyInUse,
        SessionNotOpen,
        ServiceUnavailable,
        StateDirectoryError,
        PortInUse,
        NodeError,
        AuthStateCorrupt,
        ProtocolError,
        PairingFailed,
        SendFailed,
        GraceExpired,
        JournalUnwritable,
        Conflict,
        TargetFailed,
        NotFound,
        Unauthorized,
        Forbidden,
        TooManyRequests,
        BackupFailed,
        BackupDamaged,
        ClientToolsMismatch,
        JobRunning,
        RemoteFailed,
        RestoreRefused,
        EmergencyRefused,
        EmergencyFailed,
        DrillFailed,
    )
}


def from_wire(wire: dict[str, Any]) -> StandfastError:
    """The error that a peer sent, as the class of its code; an unknown code becomes the base class."""
    cls = BY_CODE.get(str(wire.get("code")), StandfastError)
    return cls(
        str(wire.get("message", "unknown error")),
        next_step=wire.get("next_step"),
        **(wire.get("facts") or {}),
    )
