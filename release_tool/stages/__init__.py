"""The ordered steps of a release, one module each."""
