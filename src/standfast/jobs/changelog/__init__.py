"""The change log: every change of every company that a node holds, so that a past state can be had back."""
