"""Networks of the first decades."""
