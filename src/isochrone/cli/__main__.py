"""``python -m isochrone.cli``: the same as the ``isochrone`` command."""

from isochrone.cli import main

main()
