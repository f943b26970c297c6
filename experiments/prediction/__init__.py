"""Predicting devices in files and streams, on the pixels of the archive."""
