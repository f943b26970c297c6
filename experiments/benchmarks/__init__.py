"""Side-by-side measurements; each prints a table and writes JSON."""

from pathlib import Path

RESULTS = Path(__file__).parent / "results"
"""Where measurements that were run are kept."""
