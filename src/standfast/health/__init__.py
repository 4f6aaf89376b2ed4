"""Health: samples, percentiles, key ages, verdicts and recommendations."""
