"""One file a milestone."""
