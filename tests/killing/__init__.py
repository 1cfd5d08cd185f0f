"""Kills a run at every write and every request, runs it again, and judges what is left."""
