"""The figures of a study, one module a kind; each is drawn from its results alone."""
