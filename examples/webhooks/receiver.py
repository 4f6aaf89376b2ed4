"""Receives webhooks and checks their signatures, with Python's standard library alone.

Run it with the secret that `standfast webhooks add` has shown:
WEBHOOK_SECRET=whsec_… python examples/webhooks/receiver.py [PORT]
"""

import contextlib
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300  # what is older may be a recorded request that somebody sends again
MAX_BODY_BYTES = 1 << 20
seen: set[int] = set()  # a real receiver keeps this where it keeps its data


def is_genuine(secret: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Whether one of the signatures is that of the secret's owner over these very bytes, made just now."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    expected = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return any(
        version == "v1" and hmac.compare_digest(given.encode(), expected.encode())
        for version, _, given in (part.strip().partition("=") for part in signatures.split(","))
    )


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is genuine: an event is delivered until it is answered with 2xx."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One event."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length <= MAX_BODY_BYTES else b""
        timestamp = self.headers.get("Standfast-Timestamp", "")
        signatures = self.headers.get("Standfast-Signature", "")
        if not is_genuine(os.environ["WEBHOOK_SECRET"], timestamp, signatures, body):
            self.close_connection = True
            return self.answer(401)
        event = json.loads(body)
        if event["number"] not in seen:  # at least once means: perhaps twice
            seen.add(event["number"])
            print(event["number"], event["company"], event["kind"], flush=True)
        return self.answer(204)

    def answer(self, status: int) -> None:
        """A status without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """No line for each request."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    print("listening at", server.server_address[1], flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
