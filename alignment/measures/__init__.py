"""How good, how fair and how far off: figures with intervals, for `evaluate` and `audit`."""
