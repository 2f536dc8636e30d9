"""Sources, decoding, batching, data checks."""
