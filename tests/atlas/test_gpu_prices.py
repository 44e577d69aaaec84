from __future__ import annotations

import pytest

from isochrone.atlas.gpu_prices import (
    CPU,
    CPU_CORE_MICROUSD,
    MEMORY_GIB_MICROUSD,
    ask,
    gpu_named,
    gpu_names,
    hyperscaler_microusd_per_hour,
    independent_microusd_per_hour,
    price_factor,
)
from isochrone.schema.errors import NotFound


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100", "H100"),
        ("h100", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40S", "L40S"),
        ("4090", "RTX 4090"),
        ("", "L4"),
    ],
)
def test_a_gpu_is_found_as_people_and_drivers_write_it(text: str, name: str) -> None:
    assert gpu_named(text) == name


def test_an_unknown_gpu_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        gpu_named("Voodoo 2")
    assert "H100" in caught.value.fix


def test_a_plan_never_uses_the_marketplace_and_says_how_much_data_a_price_has() -> None:
    market, neocloud = ask("H100", "marketplace"), ask("H100", "neocloud")
    assert market is not None
    assert neocloud is not None
    assert market.microusd_per_hour < neocloud.microusd_per_hour
    assert independent_microusd_per_hour("H100", "US") == neocloud.microusd_per_hour
    assert neocloud.rows >= neocloud.providers >= 3
    assert neocloud.dates == ("2026-08-22",)


def test_prices_differ_by_country_as_a_cloud_of_both_has_it() -> None:
    assert price_factor("US") == 1.0
    assert price_factor("BR") > price_factor("DE") > 1.0
    assert price_factor("AR") == price_factor("BR")  # the only one of its continent
    assert independent_microusd_per_hour("H100", "BR") > independent_microusd_per_hour("H100", "DE")
    india = ask("H100", "india_cloud", "IN")
    assert india is not None
    assert independent_microusd_per_hour("H100", "IN") == india.microusd_per_hour


def test_a_hyperscaler_costs_its_list_price_in_the_region() -> None:
    home = hyperscaler_microusd_per_hour("H100", "us-east-1", "US")
    assert home == 6_880_000
    # Frankfurt lists no H100: Northern Virginia's price by the country's index.
    assert hyperscaler_microusd_per_hour("H100", "eu-central-1", "DE") == round(
        home * price_factor("DE")
    )
    assert hyperscaler_microusd_per_hour("RTX 4090", "us-east-1", "US") is None


def test_a_core_with_its_memory_is_priced_on_both_sides() -> None:
    independent = ask(CPU, "neocloud")
    assert independent is not None
    assert independent.microusd_per_hour == CPU_CORE_MICROUSD + 4 * MEMORY_GIB_MICROUSD
    assert hyperscaler_microusd_per_hour(CPU, "us-east-1", "US") == 43_200
    assert CPU not in gpu_names()
