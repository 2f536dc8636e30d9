"""Several processes, one result."""
