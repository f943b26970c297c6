"""What people draw on frames, in the formats they draw it with."""
