"""Keys that are needed no more: found, removed, kept for a while, put back."""
