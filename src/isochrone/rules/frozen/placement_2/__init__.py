"""``placement/2``, the rule of version 0.3: never edited (``rules.frozen`` says why)."""

from isochrone.rules.frozen.placement_2.placement import RULE, as_recorded, replay

__all__ = ["RULE", "as_recorded", "replay"]
