"""Commands, console output and wiring."""
