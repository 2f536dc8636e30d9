"""Surgery on built modules: quantise, prune, adapt."""
