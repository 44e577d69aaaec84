"""The controller: turns declarations into sites, sites into leases, and leases into routes.

One process per cell acts at a time (``leadership``). For services whose home is this cell it
chooses sites over all cells; for quotas that any home granted this cell it fits nodes; from what
nodes report it publishes routes. Everything is level-triggered: the observed world is compared
with the declared one again and again, and an event only makes it look sooner.
"""
