"""What a release says of itself, signed: its provenance, its contents, and the log of releases.

Bytes in, values out, as in `apple`: no file, socket, clock, environment or subprocess.
"""
