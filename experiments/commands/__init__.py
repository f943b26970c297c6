"""The commands of `endofed`: options, and what is printed."""
