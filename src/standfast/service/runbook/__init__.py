"""The runbook: its pages, which of them fits, and how they are filled in with what this installation is called."""
