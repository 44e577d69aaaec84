"""GPUs one by one: nothing is given twice, and whole ones stay whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.devices import WHOLE, choose, free_milli, gpu_names, matching
from isochrone.schema.lease import Lease
from isochrone.schema.node import Capacity, Device, Resources
from isochrone.schema.service import Model, Objective, Residency

MODELS = ("NVIDIA A10", "NVIDIA H100 80GB")
CPU = Device(kind="cpu", name="a processor")


def capacity(models: list[str]) -> Capacity:
    gpus = tuple(Device(kind="gpu", name=name) for name in models)
    return Capacity(cpu_milli=1000, memory_mib=1000, devices=(CPU, *gpus))


def lease(need: Resources, gpus: tuple[int, ...], name: str = "l") -> Lease:
    return Lease(
        id=name,
        service="s",
        service_revision=1,
        cell="fra",
        node="n",
        provider="p",
        model=Model(engine="onnx", task="tensor"),
        resources=need,
        residency=Residency(),
        objective=Objective(latency_ms=50),
        price_microusd_per_hour=1,
        epoch=1,
        revision=1,
        desired="serving",
        decision="d",
        home_cell="fra",
        gpus=gpus,
    )


shares = st.sampled_from([100, 250, 500, 750, 1000])
needs = st.one_of(
    st.builds(Resources, gpu_count=st.just(1), gpu_milli=shares, gpu=st.sampled_from(["", "h100"])),
    st.builds(Resources, gpu_count=st.integers(0, 4), gpu=st.sampled_from(["", "A10", "H100"])),
)


@given(st.lists(st.sampled_from(MODELS), max_size=5), st.lists(needs, max_size=20))
def test_no_gpu_is_given_beyond_its_whole(models: list[str], wanted: list[Resources]) -> None:
    node, leases = capacity(models), []
    for need in wanted:
        free = free_milli(node, leases)
        gpus = choose(node, free, need)
        able = [n for n in matching(node, need.gpu) if free[n] >= need.gpu_milli]
        assert (gpus is None) == (len(able) < need.gpu_count), "placed exactly when it fits"
        if gpus is not None:
            assert len(set(gpus)) == need.gpu_count
            assert set(gpus) <= set(able)
            leases.append(lease(need, gpus))
    assert all(0 <= left <= WHOLE for left in free_milli(node, leases))


def test_a_fraction_goes_where_a_whole_gpu_is_broken_already() -> None:
    half = Resources(gpu_count=1, gpu_milli=500)
    node = capacity(["A10", "A10"])
    assert choose(node, (1000, 500), half) == (1,)
    assert choose(node, (1000, 1000), half) == (0,)
    assert choose(node, (400, 400), half) is None, "two rests are not one GPU"


def test_numbers_count_gpus_only_and_models_match_in_any_case() -> None:
    node = capacity(["NVIDIA A10", "NVIDIA H100 80GB"])
    assert gpu_names(node) == ("NVIDIA A10", "NVIDIA H100 80GB")
    assert choose(node, (1000, 1000), Resources(gpu_count=1, gpu="h100")) == (1,)
    assert choose(node, (1000, 1000), Resources(gpu_count=2, gpu="h100")) is None


def test_a_lease_without_numbers_counts_on_the_freest() -> None:
    half, whole = Resources(gpu_count=1, gpu_milli=500), Resources(gpu_count=1)
    node = capacity(["A10", "A10"])
    assert free_milli(node, [lease(whole, ()), lease(half, (0,))]) == (500, 0)
