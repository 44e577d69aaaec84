"""The gateway: takes requests by HTTP, finds a legal, live, near replica, and carries the answer.

A thin shell around pure machines. ``routes`` (what may run where), ``attempts`` (which replica
next, and whether at all) and the rules decide; ``dispatch`` and ``relay`` move bytes; ``doors`` and
``peers`` keep the channels; ``admin`` takes declarations. A gateway speaks to nodes and other
gateways by channel, to controllers by fabric, and serves from its last snapshot without the latter.
"""
