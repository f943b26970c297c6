"""Studies: many runs on equal terms, from one TOML to tables."""
