"""One file a verb, parsing only."""
