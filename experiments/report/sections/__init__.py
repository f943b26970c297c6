"""The parts of a report, one module each; each returns a `Section` or None."""
