"""A canary in every secret, and a watch over everything that a test leaves behind.

While tests run, each secret that the tool gets to know is noted where it enters (`sources`), and
every channel in which it could leave is searched for it, in every usual spelling (`channels`): what
is printed and logged, what children print, files that the tool writes, arguments and environments
of its children. A test after which a secret is found fails (`plugin`). Product code knows nothing
of this; `child/sitecustomize.py` carries the watch into the tool's own processes.
"""
