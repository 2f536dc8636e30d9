"""Configuration, discovery, errors, seeding, console: knows nothing of networks."""
