"""Key maps to checkpoints of other libraries, one file a layout and architecture."""
