"""Measuring saved models on frames, with intervals over patients."""
