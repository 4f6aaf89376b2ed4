"""Answers every message that a company receives with the same text.

Run `standfast up` first, then: python examples/python/echo_bot.py COMPANY
"""

import asyncio
import sys

import standfast


async def main(company: str) -> None:
    """Echo until the service ends or Ctrl-C."""
    async with standfast.connect() as sf:

        async def echo(message: standfast.Message) -> None:
            if message.text:
                await sf.send(company, message.chat, f"echo: {message.text}")

        print(f"echoing for {company}; Ctrl-C ends it")
        await sf.on_message(echo, company=company)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/python/echo_bot.py COMPANY")
    try:
        asyncio.run(main(sys.argv[1]))
    except standfast.StandfastError as error:
        sys.exit(f"error: {error}\nnext: {error.next_step}")
    except KeyboardInterrupt:
        pass
