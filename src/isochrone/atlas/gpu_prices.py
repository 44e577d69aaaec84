"""What machines cost: medians of real asks, for plans made before anybody has offered anything.

Two sides. *Independent*: what a provider of an open network would ask for a GPU, taken from
clouds that rent out GPUs and little else (neoclouds), whose prices hold worldwide; in India from
its own clouds. Elsewhere it is multiplied by what AWS itself asks more in that country than in
Northern Virginia (``price_index.csv``: electricity, tax and import cost others too), or by the
median of the continent. *Hyperscaler*: AWS's list price in the region, else the median of four
clouds.

Bias, which whoever shows a price must show too: marketplace offers (Vast.ai) are the cheapest ones
of a region, so they are too low and are never used for a plan; list prices are before discounts,
so hyperscalers' are too high for whoever commits to years. CPU alone has one source a side (AWS's
step between two instances; one neocloud's list price).

Rules of this file: micro-US-dollars per hour, whole numbers. What it does not know: prices of
today; every answer carries the number of rows and their dates.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import median
from typing import Literal

import msgspec

from isochrone.atlas.blocs import countries
from isochrone.atlas.packaged import read_rows
from isochrone.schema.errors import NotFound

Class = Literal["hyperscaler", "neocloud", "india_cloud", "marketplace"]

CPU = "vCPU with 4 GiB"
"""The name under which a virtual CPU and four gibibytes of memory are priced."""

UNNAMED_GPU = "L4"
"""What a service that asks for any GPU is priced as: the least that both sides sell."""

CPU_CORE_MICROUSD, MEMORY_GIB_MICROUSD = 16_000, 2_200
"""How the independent price of a virtual CPU with 4 GiB divides (Nebius: 0.016 + 4 × 0.0022)."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A median ask for one GPU, or for ``CPU``.

    ``where``: a cloud's region, a country, or empty for anywhere. ``rows`` offers of ``providers``
    providers, of ``dates``.
    """

    gpu: str
    provider_class: Class
    where: str
    microusd_per_hour: int
    rows: int
    providers: int
    dates: tuple[str, ...]


@lru_cache(maxsize=1)
def _asks() -> dict[tuple[str, str, str], Ask]:
    found: dict[tuple[str, str, str], Ask] = {}
    for row in read_rows("gpu_prices.csv"):
        ask = msgspec.convert(
            {
                **row,
                "microusd_per_hour": round(float(row["usd_per_hour"]) * 1_000_000),
                "rows": int(row["rows"]),
                "providers": int(row["providers"]),
                "dates": tuple(row["dates"].split("|")),
            },
            Ask,
        )
        found[ask.gpu, ask.provider_class, ask.where] = ask
    return found


def ask(gpu: str, provider_class: Class, where: str = "") -> Ask | None:
    """The median ask of a class for a GPU (as ``gpu_named`` writes it), or None."""
    return _asks().get((gpu, provider_class, where))


def gpu_names(provider_class: Class = "neocloud") -> tuple[str, ...]:
    """The GPU models that a class has a price for, sorted."""
    return tuple(
        sorted(
            gpu
            for gpu, kind, where in _asks()
            if kind == provider_class and not where and gpu != CPU
        )
    )


def gpu_named(text: str) -> str:
    """The priced GPU model that ``text`` names; empty text is ``UNNAMED_GPU``.

    ``h100`` finds H100, ``NVIDIA H100 80GB`` too, ``4090`` finds RTX 4090. Raises NotFound with
    the models there are.
    """
    wanted = text.strip().lower() or UNNAMED_GPU.lower()
    names = sorted(gpu_names(), key=lambda name: (len(name), name))
    exact = [name for name in names if name.lower() == wanted]
    holding = [name for name in names if wanted in name.lower()]
    # The longest name that is part of the text says most: "L40S" before "L40" before "L4".
    inside = [name for name in reversed(names) if name.lower() in wanted]
    for found in (exact, inside, holding):
        if found:
            return found[0]
    raise NotFound(
        f"No price is known for a GPU {text[:60]!r}.",
        fix=f"Known: {', '.join(gpu_names())}; or give prices with --sites FILE.",
    )


def price_factor(country: str) -> float:
    """How much dearer a country is than Northern Virginia by AWS's own list, about 1.0-1.7.

    A country without a region of AWS takes the median of its continent's, else of all.
    """
    known = _index()
    if country in known:
        return known[country]
    continents = countries()
    mine = continents[country].continent if country in continents else ""
    near = [factor for code, factor in known.items() if continents[code].continent == mine]
    return round(median(near or known.values()), 3)


@lru_cache(maxsize=1)
def _index() -> dict[str, float]:
    return {row["country"]: float(row["factor"]) for row in read_rows("price_index.csv")}


def independent_microusd_per_hour(gpu: str, country: str) -> int:
    """What an independent provider in a country would ask for one GPU, micro-US-dollars an hour.

    Raises NotFound for a GPU that no neocloud sells.
    """
    national = ask(gpu, "india_cloud", country)
    if national is not None:
        return national.microusd_per_hour
    general = ask(gpu, "neocloud")
    if general is None:
        raise NotFound(f"No neocloud's price is known for {gpu}.", fix="See `gpu_names()`.")
    return round(general.microusd_per_hour * price_factor(country))


def hyperscaler_microusd_per_hour(gpu: str, region: str, country: str) -> int | None:
    """What a hyperscaler asks for one GPU (or ``CPU``) on demand in a region; None: sells none.

    AWS's list price there; where it does not list the model, its other regions' by the index.
    """
    local = ask(gpu, "hyperscaler", region)
    if local is not None:
        return local.microusd_per_hour
    general = ask(gpu, "hyperscaler")
    home = ask(gpu, "hyperscaler", "us-east-1")
    if home is not None:
        return round(home.microusd_per_hour * price_factor(country))
    return None if general is None else general.microusd_per_hour
