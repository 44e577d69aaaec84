"""What an epoch's books cost: ``python -m bench.settlement --json``.

An invented network of ``--chains`` (10,000) tally chains of ``--periods`` (100) links each, with
real keys, hashes and signatures, every chain of a lease with a price, a grant and a declaration;
it is the second epoch, so that books of the same size come before it. Then, each in a process of
its own on one core, Parquet files in, result out:

1. ``settle_seconds``: every link hashed, both signatures of each last head, every lease's papers
   and the vouchers checked, then ``rules.settlement``; ``peak_mb`` is that process's most memory.
   ``settle_cpu_seconds``: its processor time, which a busy neighbour changes less.
2. ``audit_seconds``: the same from an empty folder: files copied and hashed, compared with the
   chain's roots (an invented chain: no JSON-RPC in this figure), books recomputed and compared.
3. ``tally_overhead_us_per_request``: the counting of gateway and node (``bench.tally_overhead``).
4. ``gas_…``: the contracts (``bench.gas``, which shows how the last one is made up).

``--only-books`` leaves out 3 and 4 (null). The last line on standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from bench.conditions import conditions

GATEWAYS = 5
GAS = ("register", "root", "claim", "redeem", "slash", "per_million_requests")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the generating process leaves for the others, beside the store."""

    shape: dict[str, int]
    statements: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


# --- the measured processes ----------------------------------------------------------------------


def generate(folder: Path, chains: int, periods: int) -> dict[str, Any]:
    """Two settled epochs in ``folder/store``; the second one is measured."""
    from isochrone.lab.invented import Invented, Shape
    from isochrone.records.store import Store

    shape = Shape(
        cells=4,
        gateways=GATEWAYS,
        providers=50,
        nodes=500,
        tenants=40,
        leases=max(1, chains // GATEWAYS),
        periods=periods,
    )
    store, network = Store.open(folder / "store"), Invented(shape)
    first = network.settled(store, 5)
    second = network.settled(store, 6, first.settlement.books, first.manifest.digest)
    told = Told(
        shape=msgspec.structs.asdict(shape),
        statements=[msgspec.to_builtins(s.statement) for s in (first, second)],
        snapshots=[msgspec.to_builtins(s.records.chain) for s in (first, second)],
    )
    (folder / "told.json").write_bytes(msgspec.json.encode(told))
    return {"mb_files": round(sum(f.size_bytes for f in second.manifest.files) / 1e6, 1)}


def settle_epoch(folder: Path) -> dict[str, Any]:
    """Files to books, once."""
    from isochrone.records.manifest import content, fetch
    from isochrone.records.store import Store
    from isochrone.rules.roots import statement
    from isochrone.rules.settlement import settle
    from isochrone.schema.settlement import RootStatement
    from isochrone.validator.checking import check

    told = msgspec.json.decode((folder / "told.json").read_bytes(), type=Told)
    posted = msgspec.convert(told.statements[-1], RootStatement)
    store = Store.open(folder / "store")
    start, used = time.perf_counter(), time.process_time()
    manifest = fetch(store, posted.manifest)
    inputs = check(manifest, lambda file: content(store, file))
    settlement = settle(inputs)
    found = statement(settlement.books, manifest)
    took, cpu = time.perf_counter() - start, time.process_time() - used
    if found != posted:
        raise SystemExit("The books differ from those that were generated.")
    return {
        "settle_seconds": round(took, 2),
        "settle_cpu_seconds": round(cpu, 2),
        "peak_mb": peak_mb(),
        "chains": len(inputs.usages),
    }


def audit_epoch(folder: Path) -> dict[str, Any]:
    """From an empty folder to an audit that agrees."""
    from isochrone.lab.invented import DEPLOYMENT
    from isochrone.lab.invented_chain import InventedChain
    from isochrone.schema.chain_snapshot import ChainSnapshot
    from isochrone.schema.settlement import RootStatement
    from isochrone.validator.audit import audit

    told = msgspec.json.decode((folder / "told.json").read_bytes(), type=Told)
    chain = InventedChain(DEPLOYMENT)
    for root, snapshot in zip(told.statements, told.snapshots, strict=True):
        posted = msgspec.convert(root, RootStatement)
        chain.statements[posted.epoch] = posted
        chain.snapshots[posted.epoch] = msgspec.convert(snapshot, ChainSnapshot)
    start, used = time.perf_counter(), time.process_time()
    result = audit(chain, folder / "store", chain.epochs()[-1], folder / "audited")
    took, cpu = time.perf_counter() - start, time.process_time() - used
    if result.difference is not None:
        raise SystemExit(result.difference.sentence())
    return {
        "audit_seconds": round(took, 2),
        "audit_cpu_seconds": round(cpu, 2),
        "audit_peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """The most memory that this process ever had, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


# --- the whole -----------------------------------------------------------------------------------


def in_a_process(folder: Path, step: str, *more: str, one_core: bool) -> dict[str, Any]:
    """Run a step of this module alone; its last line is what it measured."""
    command = [sys.executable, "-m", "bench.settlement", "--step", step, "--folder", str(folder)]
    if one_core:
        more = (*more, "--one-core")
    done = subprocess.run([*command, *more], check=True, stdout=subprocess.PIPE)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def step(arguments: argparse.Namespace) -> None:
    """What ``in_a_process`` starts."""
    if arguments.one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    folder = Path(arguments.folder)
    if arguments.step == "generate":
        figures = generate(folder, arguments.chains, arguments.periods)
    else:
        figures = {"settle": settle_epoch, "audit": audit_epoch}[arguments.step](folder)
    print(json.dumps(figures))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    size = ["--chains", str(arguments.chains), "--periods", str(arguments.periods)]
    with tempfile.TemporaryDirectory(prefix="isochrone-settlement-") as name:
        folder = Path(name)
        say(f"writing two epochs of {arguments.chains} chains of {arguments.periods} periods")
        figures = in_a_process(folder, "generate", *size, one_core=False)
        say("settling")
        figures |= in_a_process(folder, "settle", one_core=True)
        say("auditing")
        figures |= in_a_process(folder, "audit", one_core=True)
    return figures | {"periods": arguments.periods} | others(only_books=arguments.only_books)


def others(*, only_books: bool) -> dict[str, Any]:
    """The figures of the two benchmarks beside this one; null when they are left out."""
    figures: dict[str, Any] = {"tally_overhead_us_per_request": None}
    figures |= {f"gas_{name}": None for name in GAS}
    if only_books:
        return figures
    say("counting requests at gateway and node")
    overhead = importlib.import_module("bench.tally_overhead")
    figures["tally_overhead_us_per_request"] = round(overhead.measure(), 3)
    say("gas, on a chain of its own")
    done = subprocess.run(
        [sys.executable, "-m", "bench.gas", "--json"], check=True, stdout=subprocess.PIPE
    )
    gas = json.loads(done.stdout.splitlines()[-1])
    return figures | {f"gas_{name}": gas[f"gas_{name}"] for name in GAS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the only form there is")
    parser.add_argument("--chains", type=int, default=10_000)
    parser.add_argument("--periods", type=int, default=100)
    parser.add_argument("--only-books", action="store_true")
    parser.add_argument("--step", choices=("generate", "settle", "audit"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--one-core", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments)
        return
    versions = [
        f"{name} {importlib.import_module(name).__version__}" for name in ("numpy", "pyarrow")
    ]
    say(conditions("settling and auditing each on one core", *versions))
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
