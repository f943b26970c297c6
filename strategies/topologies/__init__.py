"""Graphs of silos over a network of cities: designs, delays and cycle times."""
