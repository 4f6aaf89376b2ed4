"""`python -m standfast` is the `standfast` command."""

from standfast.cli.main import run

if __name__ == "__main__":
    run()
