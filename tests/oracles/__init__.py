"""Independent readers beside ours; docs/oracles.md says who agrees on what."""
