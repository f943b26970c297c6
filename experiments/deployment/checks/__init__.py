"""What `endofed site check` looks at, one module per kind."""
