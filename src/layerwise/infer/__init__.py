"""Generation, samplers, caches."""
