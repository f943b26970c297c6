"""What a person starts: the command line, studies and benchmarks."""
