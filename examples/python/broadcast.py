"""Sends one text to every phone number of a file, each once, however often it is run.

Run `standfast up` first, then: python examples/python/broadcast.py COMPANY NAME NUMBERS.txt "Text"
NAME is the broadcast's own: with the same name nobody gets it twice, with another one everybody does again.
"""

import asyncio
import sys
from pathlib import Path

import standfast


async def broadcast(company: str, name: str, numbers: list[str], text: str) -> int:
    """How many could not be sent to."""
    failed = 0
    async with standfast.connect() as sf:
        for line, number in enumerate(numbers, start=1):
            digits = "".join(character for character in number if character.isdigit())
            try:
                # Accepted, and on the service's disk: it paces new chats and sends by itself.
                await sf.send(company, number, text, idempotency_key=f"{name}:{digits}", wait_s=0)
            except standfast.StandfastError as error:
                if error.retryable:
                    raise  # the service or its disk, not this number: run it again later
                failed += 1
                print(f"line {line}: {error}")
    return failed


def main(company: str, name: str, file: str, text: str) -> None:
    """Accepts all there is to send, then says how it went."""
    numbers = [line.strip() for line in Path(file).read_text().splitlines() if line.strip()]
    failed = asyncio.run(broadcast(company, name, numbers, text))
    print(f"{len(numbers) - failed} accepted, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit('usage: python examples/python/broadcast.py COMPANY NAME NUMBERS.txt "Text"')
    try:
        main(*sys.argv[1:])
    except standfast.StandfastError as error:
        sys.exit(f"error: {error}\nnext: {error.next_step}")
