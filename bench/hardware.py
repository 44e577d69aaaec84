"""What showing hardware costs and catches: ``python -m bench.hardware --json``.

Doing: the node's own worker process (numpy, one thread), from the order to the committed root, the
recall and the opening of 64 rows. Checking: the verifier's whole check of that opening, on one
core. ``check_ratio`` is checking ÷ doing in processor time (a validator pays for it with a core as
the node does), the worst of the sizes; ``check_ratio_wall`` by wall time.

Detection: planted cheats (``hardware_cheats``) against honest nodes, ``--runs`` works each, judged
by the shipped rules, up to three works a judgement as in a watch, against a claim one class below
what honest works showed at best. Times are processor times of one thread, so that whatever else
runs on this machine changes nothing.

The last line on standard output is one JSON object: ``check_ratio``, ``check_ratio_wall``,
``mflops``, ``device_class``, ``recall_gib_per_s``, ``sizes`` (per size: memory, seconds, ratio),
``detection`` (share caught per cheat), ``honest_failed``, ``honest_runs``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import time

import psutil

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: one core does, one core checks

from bench.conditions import conditions
from bench.hardware_cheats import (
    Forgetful,
    HalfMemory,
    LowRank,
    Replayed,
    Shower,
    ShownWrong,
    SoldTwice,
    Swapped,
    WrongRows,
)

from isochrone.node.work_process import WorkProcess
from isochrone.node.work_worker import Begin, Committed, Open, Opened, Recall, Recalled
from isochrone.rules.hardware import WORKS_TO_FAIL, drawn_rows, finding, recall_nonce, work_seed
from isochrone.rules.work_sizes import WorkSize, claimed_mflops, class_of, mflops_of, work_for
from isochrone.schema.work import WorkAttestation, WorkClaim
from isochrone.validator.hardware_check import Shown, check

MEMORIES_MIB = (32, 64, 256, 512)
CLAIM_MFLOPS = 65_536
SMALL = WorkSize(32_768, 512)
KINDS: dict[str, type[Shower]] = {
    "rows_left_out_tenth": WrongRows,
    "rows_shown_wrong_tenth": ShownWrong,
    "low_rank": LowRank,
    "swapped_order": Swapped,
    "replayed_work": Replayed,
    "recall_not_done": Forgetful,
    "twice_the_memory": HalfMemory,
    "one_device_sold_twice": SoldTwice,
}


class Timed:
    """One work by the shipped worker, and what checking it cost."""

    def __init__(self, size: WorkSize) -> None:
        self.size = size
        self.commit_s = self.recall_s = self.doing_cpu_s = self.check_s = self.check_cpu_s = 0.0

    async def run(self, chance: bytes) -> None:
        """Do, recall, open, check."""
        size, work, nonce = self.size, work_seed(chance), recall_nonce(chance)
        asked = drawn_rows(chance, size.rows)
        async with WorkProcess() as process:
            began_s = time.perf_counter()
            committed = await process.ask(Begin(work, size.rows, size.width, 1), Committed)
            self.commit_s = time.perf_counter() - began_s
            began_s = time.perf_counter()
            recalled = await process.ask(Recall(nonce), Recalled)
            self.recall_s = time.perf_counter() - began_s
            opened = await process.ask(Open(asked), Opened)
            times = psutil.Process(process.pid).cpu_times()
            self.doing_cpu_s = times.user + times.system
        shown = Shown(
            work=work, size=size, committed=committed.root, nonce=nonce,
            recalled=recalled.root, asked=asked, rows=opened.rows,
        )  # fmt: skip
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        found = check(shown)
        self.check_s = time.perf_counter() - began_s
        self.check_cpu_s = time.process_time() - began_cpu_s
        if not found.proven or found.wrong is not None:
            raise SystemExit("bench: an honest work was found wrong")


def told(kind: type[Shower], chance: bytes) -> WorkAttestation:
    """A work by a node of that kind in this process, attested."""
    work, nonce = work_seed(chance), recall_nonce(chance)
    began_s = time.thread_time()
    shower = kind(work, SMALL)
    committed = shower.committing()
    elapsed_us = int((time.thread_time() - began_s) * 1e6)
    began_s = time.thread_time()
    recalled = shower.recalling(nonce)
    recalled_us = int((time.thread_time() - began_s) * 1e6)
    asked = drawn_rows(chance, SMALL.rows)
    shown = Shown(
        work=work, size=SMALL, committed=committed, nonce=nonce, recalled=recalled,
        asked=asked, rows=shower.opening(asked),
    )  # fmt: skip
    found = check(shown)
    if not found.proven:
        raise SystemExit("bench: a cheat showed nothing, so there is nothing to judge")
    return WorkAttestation(
        node="", validator="", account="", at_unix_ms=0, rows=SMALL.rows, width=SMALL.width,
        elapsed_us=elapsed_us, recalled_us=recalled_us, memory_mib=SMALL.memory_mib,
        mflops=mflops_of(SMALL, elapsed_us), right=found.wrong is None, result=b"",
    )  # fmt: skip


def own_claim() -> WorkClaim:
    """What an honest node of this machine claims."""
    best = max(told(Shower, chance("own", again)).mflops for again in range(5))
    return WorkClaim(memory_mib=SMALL.memory_mib, mflops=claimed_mflops(best))


def judged(kind: type[Shower], claim: WorkClaim, run: int) -> str:
    """The verdict after up to three works."""
    works: list[WorkAttestation] = []
    for again in range(WORKS_TO_FAIL):
        works.append(told(kind, chance(kind.__name__, run, again)))
        verdict = finding(works, claim).verdict
        if verdict != "unknown":
            break
    return verdict


def chance(*parts: object) -> bytes:
    """32 bytes that differ for each work."""
    return hashlib.sha256(repr(parts).encode()).digest()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.hardware")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--runs", type=int, default=20, help="judgements for each cheat")
    parser.add_argument("--repeat", type=int, default=3, help="works of each size")
    arguments = parser.parse_args()
    if not arguments.json:
        print(conditions("one thread does, one checks"))
    sizes = [size for mib in MEMORIES_MIB if (size := work_for(mib, CLAIM_MFLOPS)) is not None]
    timed: list[list[Timed]] = []
    for size in sizes:
        works = [Timed(size) for _ in range(arguments.repeat)]
        for index, work in enumerate(works):
            asyncio.run(work.run(chance("size", size.rows, index)))
        timed.append(works)
        print(f"{size.memory_mib} MiB: {works[-1].commit_s:.2f} s", file=sys.stderr)
    detection: dict[str, float] = {}
    claim = own_claim()
    for name, kind in KINDS.items():
        verdicts = [judged(kind, claim, run) for run in range(arguments.runs)]
        detection[name] = round(verdicts.count("failed") / len(verdicts), 4)
        print(f"{name}: {detection[name]}", file=sys.stderr)
    honest = [judged(Shower, claim, run) for run in range(arguments.runs)]
    print(json.dumps(summary(timed, detection, honest)))


def summary(
    timed: list[list[Timed]], detection: dict[str, float], honest: list[str]
) -> dict[str, object]:
    """The last line."""
    lines = []
    for works in timed:
        size = works[0].size
        lines.append(
            {
                "memory_mib": size.memory_mib,
                "rows": size.rows,
                "width": size.width,
                "doing_s": round(statistics.median(w.commit_s for w in works), 3),
                "doing_cpu_s": round(statistics.median(w.doing_cpu_s for w in works), 3),
                "check_ms": round(1e3 * statistics.median(w.check_s for w in works), 3),
                "ratio": round(statistics.median(w.check_cpu_s / w.doing_cpu_s for w in works), 5),
                "wall_ratio": round(
                    statistics.median(w.check_s / (w.commit_s + w.recall_s) for w in works), 5
                ),
            }
        )
    widest = timed[-1]
    best_s = min(work.commit_s for work in widest)
    mflops = mflops_of(widest[0].size, int(best_s * 1e6))
    recall_s = min(work.recall_s for work in widest)
    return {
        "check_ratio": max(line["ratio"] for line in lines),
        "check_ratio_wall": max(line["wall_ratio"] for line in lines),
        "mflops": mflops,
        "device_class": class_of(mflops),
        "recall_gib_per_s": round(widest[0].size.memory_mib / 1024 / recall_s, 2),
        "sizes": lines,
        "detection": detection,
        "honest_failed": honest.count("failed"),
        "honest_runs": len(honest),
    }


if __name__ == "__main__":
    main()
