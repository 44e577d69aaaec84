"""What is claimed in the field, and what holds where: the first sections of ``docs/evidence.md``.

Verdicts are worked out from ``bench.reach``'s figures by the thresholds below, never written by
hand. A claim of cost needs enough independent providers to have a median worth the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.evidence_words import listed, percent, table, verdict

Facts = Mapping[str, Any]

EVERYBODY = 0.99
"""``everywhere`` holds when at least this share of people is within the bound."""

CLAIMED_SAVING = 0.60
"""The claim of the field: 60 % lower cost."""

PROVIDERS_FEW = 3
"""So many independent providers or fewer are their own whims: no verdict rests on them."""

SETS = {"central20": "20 central GPU regions", "50": "50 chosen sites", "200": "200 chosen sites",
        "1000": "1,000 chosen sites"}  # fmt: skip


def claims(reach: Facts) -> str:
    """The claims in sentences, then one by one, then by continent."""
    rows = _fifty(reach) + _ten(reach) + _cost(reach)
    return (
        "## What is claimed in the field, and what holds\n\n"
        f"*Holds* for times: at least {percent(EVERYBODY, 0)} of people. For cost: at least "
        f"{percent(CLAIMED_SAVING, 0)} below, median to median, with more than {PROVIDERS_FEW} "
        "independent providers.\n\n"
        f"{_in_short(reach)}\n" + table(["claim", "", "measure"], rows) + _continents(reach)
    )


def _in_short(reach: Facts) -> str:
    bare, far = reach["share_within_50ms"], reach["share_within_50ms_access10"]
    enough = [int(count) for count, *_, share in reach["curve"] if share >= EVERYBODY]
    where = f"it holds from about {min(enough):,} sites on" if enough else "it holds for none"
    near = reach["share_within_10ms"]
    most = max(near, key=near.__getitem__)
    verdicts = {gpu: _cost_verdict(reach, gpu) for gpu in sorted(reach["cost_ratio_hyperscaler"])}
    by = {
        word: listed([gpu for gpu, told in verdicts.items() if told == word])
        for word in ("holds", "does not hold", "too few offers to say")
    }
    return f"""- **Under 50 ms everywhere** depends on the number of sites, and on the last mile.
  Twenty central regions reach {percent(bare["central20"])} of people, 200 chosen sites
  {percent(bare["200"])}, 1,000 of them {percent(bare["1000"])}; {where}.
  With 10 ms of access those are {percent(far["central20"])}, {percent(far["200"])} and
  {percent(far["1000"])}.
- **Under 10 ms at the edge** holds nowhere near everybody: at best {percent(near[most])} of people
  ({SETS[most]}), {percent(reach["share_within_10ms_access2"][most])} with a last mile of 2 ms, and
  nobody with one of 10 ms.
- **60 % lower cost** holds for {by["holds"]}, does not for {by["does not hold"]}, and rests on too
  few offers for {by["too few offers to say"]}. These are list prices: discounts for commitment
  lower the hyperscalers' side, and no plan of this project counts on a marketplace's cheapest.
"""


def _fifty(reach: Facts) -> list[list[str]]:
    bare, far = reach["share_within_50ms"], reach["share_within_50ms_access10"]
    return [
        [
            f"under 50 ms everywhere, from {name}",
            verdict(bare[key] >= EVERYBODY),
            f"{percent(bare[key])} of people without access delay, "
            f"{percent(far[key])} with 10 ms of it",
        ]
        for key, name in SETS.items()
    ]


def _ten(reach: Facts) -> list[list[str]]:
    return [
        [
            f"under 10 ms at the edge, from {name}",
            verdict(reach["share_within_10ms"][key] >= EVERYBODY),
            f"{percent(reach['share_within_10ms'][key])} without access delay, "
            f"{percent(reach['share_within_10ms_access2'][key])} with 2 ms, "
            f"{percent(reach['share_within_10ms_access10'][key])} with 10 ms",
        ]
        for key, name in SETS.items()
    ]


def _cost(reach: Facts) -> list[list[str]]:
    rows = []
    for gpu, ratio in sorted(reach["cost_ratio_hyperscaler"].items()):
        sides = reach["prices"][gpu]
        measure = f"{percent(1 - 1 / ratio, 0)} lower than the median hyperscaler"
        if "neocloud" in sides:
            alone = percent(1 - 1 / sides["neocloud"]["ratio"], 0)
            measure += f", {alone} at neoclouds alone"
        providers = sides["independent"]["providers"]
        rows.append(
            [
                f"60 % lower cost: {gpu}",
                _cost_verdict(reach, gpu),
                f"{measure} ({providers} independent providers)",
            ]
        )
    return rows


def _cost_verdict(reach: Facts, gpu: str) -> str:
    if reach["prices"][gpu]["independent"]["providers"] <= PROVIDERS_FEW:
        return "too few offers to say"
    return verdict(1 - 1 / reach["cost_ratio_hyperscaler"][gpu] >= CLAIMED_SAVING)


def _continents(reach: Facts) -> str:
    areas = reach["share_within_50ms_by_continent"]
    rows = [
        [name, percent(told["people"], 0), *(percent(told[key]) for key in SETS)]
        for name, told in sorted(areas.items(), key=lambda row: -row[1]["people"])
    ]
    return "\nWhere people within 50 ms are, without access delay:\n\n" + table(
        ["continent", "of all people", *SETS.values()], rows
    )
