from __future__ import annotations

from isochrone.atlas.blocs import countries
from isochrone.atlas.cities import all_cities
from isochrone.atlas.sites import candidate_sites, central_regions, cloud_regions, usual_regions


def test_the_central_set_is_every_public_region_with_large_accelerators_of_one_cloud() -> None:
    central = central_regions()
    assert len(central) == 20
    assert {"us-east-1", "eu-central-1", "sa-east-1", "me-central-1"} <= {
        one.region for one in central
    }
    assert all("gov" not in one.region and one.gpus for one in central)
    left_out = [one for one in cloud_regions() if one.gpus and one not in central]
    assert all(
        "gov" in one.region or not {"A100", "H100", "H200"} & set(one.gpus) for one in left_out
    )


def test_the_usual_set_stands_on_three_continents() -> None:
    where = [countries()[one.place.country].continent for one in usual_regions()]
    assert where == ["NA", "EU", "AS"]


def test_candidates_are_metros_of_the_atlas_and_no_country_is_left_out() -> None:
    sites = candidate_sites()
    metros = [site.place.metro for site in sites]
    assert len(set(metros)) == len(metros)
    known = {city.place.metro: city.place for city in all_cities()}
    assert all(known[site.place.metro] == site.place for site in sites)
    assert {site.place.country for site in sites} == {place.country for place in known.values()}
    frankfurt = next(site for site in sites if site.place.metro == "frankfurt")
    assert frankfurt.measured
    assert frankfurt.clouds >= 5
