"""Attributions, probes, maps: what a network looks at and what each of its layers learned."""
