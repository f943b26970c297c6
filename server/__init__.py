"""The coordinating centre: rounds, checkpoints, tracking."""
