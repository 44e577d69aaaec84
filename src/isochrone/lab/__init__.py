"""A world in a box: emulated distances and the scenarios that run in them.

The lab starts the running parts and stands between their sockets. Nothing that it knows (hidden
perturbations, which link is cut) may be read by any part; parts never import it.
"""
