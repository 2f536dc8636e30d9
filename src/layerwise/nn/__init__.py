"""Layers shared by two or more models, one concept a file."""
