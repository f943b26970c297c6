"""What the coarse-to-fine adaptation is compared with, each from its own paper."""
