"""Carries a macOS provider from built binaries to a registered, promoted release."""

__version__ = "0.1.0"
