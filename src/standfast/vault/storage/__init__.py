"""The vault's file: replica and journal of this machine."""
