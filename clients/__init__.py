"""The hospital: its frames, its training, its answers."""
