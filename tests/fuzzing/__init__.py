"""Mutated and generated inputs for every reader of hostile bytes; see `__main__`."""
