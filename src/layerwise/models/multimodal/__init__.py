"""Networks of more than one kind of input."""
