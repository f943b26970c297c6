"""Fixtures of the scenes, for all tests of prediction."""

from tests.experiments.prediction.scenes import dark_source, make_scene, make_xa

__all__ = ["dark_source", "make_scene", "make_xa"]
