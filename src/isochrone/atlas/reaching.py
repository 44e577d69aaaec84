"""``reach`` for processes that must not load numpy: a short-lived child that answers and ends.

Standard input: a JSON list of ``Place``; standard output: a JSON list of what
``borders.reach`` says of each. Gateways keep the answers for ever (``fabric.reaches``): land does
not move.
"""

from __future__ import annotations

import sys

import msgspec

from isochrone.atlas.borders import reach
from isochrone.schema.place import Place

Reach = tuple[tuple[str, float], ...]


def main() -> None:
    """Answer one list of places."""
    places = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Place])
    sys.stdout.buffer.write(msgspec.json.encode([reach(place) for place in places]))


if __name__ == "__main__":
    main()
