"""Apple's formats and rules: bytes in, values out."""
