"""The commands of `endofed benchmark`."""
