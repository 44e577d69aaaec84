from __future__ import annotations

from pathlib import Path

from isochrone.atlas.build_market import build

REGIONS = """\
provider,region,location,country,iso2,latitude,longitude,gpus_offered
aws,eu-central-1,Europe (Frankfurt),Germany,DE,50.11,8.68,A100|T4
aws,us-east-1,US East (N. Virginia),United States,US,39.03,-77.46,H100
"""

HEAD = "date,provider,provider_class,gpu,billing,region,country,usd_per_gpu_hour,instance\n"
AWS = "2026-01-21,AWS,hyperscaler"
PRICES = (
    HEAD
    + f"""\
{AWS},L4,on-demand,us-east-1,US,0.8,g6.xlarge
{AWS},L4,on-demand,us-east-1,US,0.9,g6.2xlarge
{AWS},L4,on-demand,us-east-1,US,1.3,g6.4xlarge
{AWS},L4,on-demand,eu-central-1,DE,1.0,g6.xlarge
{AWS},L4,spot,eu-central-1,DE,0.1,g6.xlarge
{AWS},L4,on-demand,us-gov-east-1,US,9.0,g6.xlarge
2026-08-22,GCP,hyperscaler,L4,on-demand,eastus,,2.0,
2026-08-22,RunPod,neocloud,L4,secure,Global,Global,0.4,
2026-08-22,RunPod,neocloud,L4,community,Global,Global,0.2,
,Nebius,neocloud,L4,on-demand,Global,Global,0.5,
2026-08-22,E2E,india_cloud,L4,on-demand,Delhi,IN,0.6,
"""
)


def built(folder: Path) -> dict[str, list[str]]:
    source, out = folder / "in", folder / "out"
    source.mkdir()
    out.mkdir()
    (source / "cloud_regions.csv").write_text(REGIONS, encoding="utf-8")
    (source / "gpu_prices.csv").write_text(PRICES, encoding="utf-8")
    build(source, out)
    return {path.name: path.read_text(encoding="utf-8").splitlines() for path in out.iterdir()}


def test_medians_are_over_providers_and_spot_is_left_out(tmp_path: Path) -> None:
    files = built(tmp_path)
    rows = files["gpu_prices.csv"]
    # AWS counts as the median of its regions' cheapest (0.8, 1.0, 9.0), GCP as 2.0.
    assert "L4,hyperscaler,,1.5,6,2,2026-01-21|2026-08-22" in rows
    assert "L4,hyperscaler,us-east-1,0.8,3,1,2026-01-21" in rows
    assert "L4,neocloud,,0.4,3,2,2026-08-22|undated" in rows  # RunPod 0.3, Nebius 0.5
    assert "L4,india_cloud,IN,0.6,1,1,2026-08-22" in rows
    assert "vCPU with 4 GiB,hyperscaler,us-east-1,0.05,2,1,2026-01-21" in rows


def test_the_index_compares_equal_instances_with_northern_virginia(tmp_path: Path) -> None:
    assert built(tmp_path)["price_index.csv"] == ["country,factor,rows", "DE,1.25,1", "US,1.0,3"]


def test_a_region_stands_in_a_metro_of_the_atlas(tmp_path: Path) -> None:
    rows = built(tmp_path)["cloud_regions.csv"]
    assert rows[1] == "aws,eu-central-1,Europe (Frankfurt),DE,50.11,8.68,frankfurt,A100|T4"
