"""Frames and masks: readers, preprocessing, splits and the simulator."""
