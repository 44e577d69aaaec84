"""One cell's processes on one machine: fabric servers, controllers, gateways, perhaps a node.

For ``isochrone up`` and the lab. Each part is an operating-system process in its own session, kept
up with a growing pause between restarts, ended in order by its process id and never by name.
"""
