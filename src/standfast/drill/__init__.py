"""The drill: an outage rehearsed on real parts, measured and judged."""
