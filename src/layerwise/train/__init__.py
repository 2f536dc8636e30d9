"""The one loop, its state, signals, precision and tripwires."""
