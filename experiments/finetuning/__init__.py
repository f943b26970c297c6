"""Few-shot studies: a model adapted to a few labelled frames, and measured."""
