"""`endofed adapt`: stages, rows and pictures of an adaptation study."""
