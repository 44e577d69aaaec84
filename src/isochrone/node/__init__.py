"""The node process: one machine of a provider, dialling out, running replicas under leases.

Start at ``process.py``: it joins the pure machines (``leases``, ``home``) to the world (``doors``,
``replica``, ``downloads``, ``serving``). Run it with ``python -m isochrone.node config.json``.
"""
