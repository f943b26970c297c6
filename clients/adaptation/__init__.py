"""From simulation to real X-ray without labels, coarse to fine (arXiv 2410.07460)."""
