"""Rules that no longer decide anything, kept so that their records replay for ever.

A package a version, each whole: its rules *and* the shapes of its inputs and records as they were,
since a field added today would change the bytes of a decision made years ago. Nothing in here is
ever edited; what must hold is that ``tests/rules/goldens`` still come out byte for byte.
``rules.versions`` knows which there are.

A frozen version uses of the living code only what has no opinion: canonical bytes and digests
(``schema.digests``) and the errors.
"""
