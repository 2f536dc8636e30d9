"""One file a way of learning; the network is an argument."""
