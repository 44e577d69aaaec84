"""Write ``docs/evidence.md`` from benchmarks' outputs: ``python -m bench.evidence --reach FILE``.

Every figure in the text is filled in from the JSON that the benchmarks printed (a file may hold a
whole output; its last line counts). The same JSON stands at the end of the document, so that the
text can be made again from it, which a test does. Verdicts are worked out by thresholds
(``bench.evidence_claims``), never written by hand.

``--placement``, ``--packing``, ``--scaling`` add their sections where they are given. Maps and
curves are drawn by ``bench.evidence_figures``, from the same JSON (``--text-only``: leave them).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.evidence_claims import SETS, claims
from bench.evidence_parts import packing, placement, scaling
from bench.evidence_words import percent, table

Facts = Mapping[str, Any]

ERRORS = {
    "the model": "rtt_model",
    "... between a city left out and one in the fit": "rtt_model_half",
    "... when the new city contributes ten probes": "rtt_model_probed",
    "a line in distance": "rtt_line",
    "the three nearest cities, corrected for distance": "rtt_three_neighbours",
    "single pairs left out, both cities known, by the model": "rtt_pair_floor",
    "... by the cities whose round trips are most alike": "rtt_pair_donors",
}
"""Rows of the table of errors, and the beginning of their keys (``bench.reach_rtt``)."""

LEFT_OUT = ("sites",)
"""Keys that only the maps need; they would make the document's JSON ten times longer."""

FENCE = "```"


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description="Writes docs/evidence.md from JSON.")
    for name in ("reach", "placement", "packing", "scaling"):
        parser.add_argument(f"--{name}", required=name == "reach", help=f"output of bench.{name}")
    parser.add_argument("--out", default="docs", help="folder of evidence.md")
    parser.add_argument("--text-only", action="store_true", help="leave the figures as they are")
    options = vars(parser.parse_args())
    given = {
        name: last_line(Path(options[name]))
        for name in ("reach", "placement", "packing", "scaling")
        if options[name]
    }
    out = Path(options["out"])
    if not options["text_only"]:
        from bench.evidence_figures import draw

        draw(given["reach"], out / "evidence")
    given["reach"] = {k: v for k, v in given["reach"].items() if k not in LEFT_OUT}
    (out / "evidence.md").write_text(text(given), encoding="utf-8")


def last_line(path: Path) -> dict[str, Any]:
    """The JSON object on the last line of a benchmark's output."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8").strip().splitlines()[-1])
    return found


def facts_in(document: str) -> dict[str, Any]:
    """The JSON that a written document carries."""
    block = document.rpartition(f"{FENCE}json\n")[2].partition(f"\n{FENCE}")[0]
    found: dict[str, Any] = json.loads(block)
    return found


def text(given: Mapping[str, Facts]) -> str:
    """The document."""
    reach = given["reach"]
    sections = [_head(reach), claims(reach), _people(reach), _access(reach)]
    sections += [*filter(None, [_error(reach)]), _cost(reach), _detours(reach)]
    more: dict[str, Callable[[Facts], str]] = {
        "placement": placement, "packing": packing, "scaling": scaling,
    }  # fmt: skip
    sections += [write(given[name]) for name, write in more.items() if name in given]
    block = json.dumps(given, separators=(",", ":"), sort_keys=True)
    sections.append(
        "## The figures\n\nWhat the text was made from.\n\n<details><summary>JSON</summary>\n\n"
        f"{FENCE}json\n{block}\n{FENCE}\n\n</details>\n"
    )
    return "\n".join(sections)


def _head(reach: Facts) -> str:
    return f"""# Evidence

What an open network of many sites can do for people, and what not, beside twenty centralised GPU
regions. This file is generated (`python -m bench.evidence`) from the benchmarks' outputs; nobody
wrote a figure by hand. Data, licences: `src/isochrone/atlas/data/ATTRIBUTION.md`.

*People* are {reach["people_counted"]:,} cities of 15,000 inhabitants or more, weighted by
{reach["weighted_by"]}.
*Round trips* are between data centres: measured where both ends were measured (one day of 2020),
else expected by a model fitted to those; the way from a home to the first data centre, *access*, is
stated apart. A round trip is not an answer: the time of the model itself comes on top.
"""


def _people(reach: Facts) -> str:
    rows = [
        [name, *(percent(reach[f"share_within_{ms}ms"][key]) for ms in (50, 25, 10))]
        for key, name in SETS.items()
    ]
    known = reach["measured_check"]
    checks = [
        [
            SETS[key],
            str(known[key]["sites"]),
            *(
                f"{percent(known[key]['measured'][f'{ms}ms'])} / "
                f"{percent(known[key]['modelled'][f'{ms}ms'])}"
                for ms in (50, 25, 10)
            ),
        ]
        for key in SETS
        if "measured" in known.get(key, ())
    ]
    people = max((row["people"] for row in known.values()), default=0.0)
    return (
        "## People within reach\n\n"
        + table(["sites", "within 50 ms", "within 25 ms", "within 10 ms"], rows)
        + f"""
The chosen sites are the first of one list, in the order in which each adds most people within 50,
25 and 10 ms together (`rules.coverage_order`, the number by which standby is paid), among
{reach["possible_sites"]:,} cities. They say where a network should grow, not where anybody offers
machines today. The central ones are the regions where AWS sells A100 or newer to everybody. A site
in one's own metro counts 1.5 ms, which is assumed.

![Twenty central regions](evidence/central20.png)

![Two hundred chosen sites](evidence/chosen200.png)

![People within reach by number of sites](evidence/curve.png)

**Checked against measured pairs.** {percent(people, 0)} of people live in a city of the table. For
them, and for those sites that are in it, too: what was measured / what the model says of their
cities when they are left out of its fit. Where the second is smaller, the shares above, which rest
on the model for everybody else, are too low rather than too high.

"""
        + table(["sites", "of them measured", "50 ms", "25 ms", "10 ms"], checks)
    )


def _access(reach: Facts) -> str:
    rows = [
        [
            name,
            *(
                percent(reach[f"share_within_{ms}ms_access{access}"][key])
                for access in (2, 10)
                for ms in (50, 25, 10)
            ),
        ]
        for key, name in SETS.items()
    ]
    head = [f"{ms} ms, access {access} ms" for access in (2, 10) for ms in (50, 25, 10)]
    return (
        "## The last mile\n\nThe same with an access round trip of 2 ms (good fibre) and 10 ms "
        "(cable, good mobile networks). What the access takes, no site gives back: with 10 ms of "
        "it nobody is within 10 ms of anything.\n\n" + table(["sites", *head], rows)
    )


def _error(reach: Facts) -> str:
    rows = [
        [
            name,
            f"{reach[f'{key}_median_abs_err_ms']:.2f} ms",
            percent(reach[f"{key}_p90_rel_err"], 0),
        ]
        for name, key in ERRORS.items()
        if f"{key}_median_abs_err_ms" in reach
    ]
    if not rows:
        return ""
    return (
        "## How wrong expected round trips are\n\nOn cities left out of the fit, in eight folds: "
        "the median of the error, and the relative error that nine in ten stay below.\n\n"
        + table(["prediction", "median error", "nine in ten"], rows)
    )


def _cost(reach: Facts) -> str:
    prices = reach["prices"]
    rows = []
    for gpu, ratio in sorted(reach["cost_ratio_hyperscaler"].items()):
        row = [gpu, f"{ratio:.2f}"]
        for kind in ("hyperscaler", "independent", "neocloud", "india_cloud", "marketplace"):
            told = prices[gpu].get(kind)
            row.append(
                f"${told['usd_per_hour']:.2f} ({told.get('rows', told['providers'])})"
                if told
                else "-"
            )
        rows.append(row)
    head = ["GPU", "ratio", "hyperscaler (rows)", "independent (providers)", "neocloud (rows)",
            "Indian clouds (rows)", "marketplace (rows)"]  # fmt: skip
    return (
        "## Cost\n\nOn-demand US dollars per GPU-hour: the median hyperscaler, and the median "
        "independent provider (neoclouds, Indian clouds and a marketplace, one median each).\n\n"
        + table(head, rows)
        + """
![Prices by GPU](evidence/prices.png)

Bias: hyperscalers' are list prices before discounts for commitment, AWS of 2026-01-21, the others
of 2026-08-22; marketplace rows are the cheapest offers of each region, so too low; where few rows
stand behind a median (in brackets) it may be one provider's whim. An independent provider's machine
is not a hyperscaler's service: what is compared is the price of the GPU alone.
"""
    )


def _detours(reach: Facts) -> str:
    told = reach["detours"]
    rows = [
        [
            "any of the table's servers" if name == "any" else f"{name} cells",
            percent(told[name]["share"]),
            f"{told[name]['median_saving_ms']:.1f} ms",
        ]
        for name in sorted(told, key=lambda name: (len(name), name))
    ]
    relay_ms = told["any"]["relay_ms"]
    return (
        "## Detours\n\nBetween how many pairs of measured cities "
        f"({told['any']['pairs']:,}) a way through one of the network's own cells is at least a "
        "tenth faster than the direct way, and what is saved then. The relay counts with "
        f"{relay_ms:g} ms, which is what gateway and node together take at the median in this "
        "project's demo, the whole network on two shared cores; alone on a machine they take far "
        "less (`bench.gateway`).\n\n" + table(["relays", "pairs", "median saving"], rows)
    )


if __name__ == "__main__":
    main()
