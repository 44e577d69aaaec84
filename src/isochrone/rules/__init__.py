"""Every decision of the network as a pure function: no I/O, no clock, no random number.

Time and seeds are arguments, sets come in expanded (blocs), and floats are summed in a fixed
order, so that a decision can be replayed byte for byte anywhere, years later.
"""
