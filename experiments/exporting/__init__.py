"""A model in other people's formats, each checked against the model it came from."""
