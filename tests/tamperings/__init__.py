"""Named tamperings of signed things: what is changed, and the check that must catch it.

Each table is data: a name, a change, the name of the check. The same tables run over real
Apple-signed items and over look-alikes of ours.
"""
