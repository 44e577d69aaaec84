"""The nouns of the network as typed, immutable structs, their wire formats and digests.

Imports nothing of ours. "Model" always means an AI model. Every struct is frozen: a change is a
new value with a higher revision. Money is an integer of micro-US-dollars; time is milliseconds of
Unix time at the edges only; digests are lower-case SHA-256 hex.
"""
