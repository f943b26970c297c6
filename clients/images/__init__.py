"""Grey frames out of the files of an archive."""
