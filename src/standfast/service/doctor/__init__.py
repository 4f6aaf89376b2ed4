"""The doctor: looks at what Standfast stands on, and names the exact mend. Begins at `examination.examine`."""
