"""Tensors in, tensors out: networks, losses, metrics and weights."""
