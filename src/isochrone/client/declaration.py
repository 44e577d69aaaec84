"""A declaration: the YAML that a tenant writes, read into a ``Service`` and its local files.

    name: speech-detection
    model: {path: ./silero_vad.onnx, engine: onnx, task: tensor}
    resources: {cpus: 0.5, memory: 512MiB}
    replicas: 2..4
    audience: [Europe]
    objective: {latency_ms: 50, percentile: 95}
    residency: {allow: [EU]}
    max_price_usd_per_hour: 0.40

Every error names the file and the line. What can be checked without a network is checked here;
``Declaration.place`` names the line for what a gateway says later (no legal place, say).
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
from pathlib import Path
from typing import get_args

import msgspec

from isochrone.client.declared_places import read_audience, read_residency
from isochrone.client.yaml_nodes import Field, read_yaml
from isochrone.schema.errors import InvalidInput
from isochrone.schema.node import Resources
from isochrone.schema.service import (
    NAME,
    Model,
    ModelFile,
    Objective,
    ReplicaRange,
    Residency,
    Service,
    Task,
)

ENGINES = ("onnx", "llamacpp", "upstream")
_TOP = (
    "name",
    "model",
    "resources",
    "replicas",
    "audience",
    "objective",
    "residency",
    "max_price_usd_per_hour",
    "hedge",
    "answer_checks",
)
_MODEL = ("path", "package", "file", "files", "engine", "task", "options")
_SIZES_MIB = {"": 1.0, "MIB": 1.0, "GIB": 1024.0, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20}
_DIGEST_CHUNK_BYTES = 1 << 20


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """A read declaration: the service (revision 0, no home yet) and where its files lie here.

    ``source``: the file it was read from; ``lines``: top-level field -> line.
    """

    service: Service
    files: dict[str, Path]
    source: str
    lines: dict[str, int]

    def place(self, field: str) -> str:
        """``service.yaml, line 7``; only the file when the field is not written in it."""
        return f"{self.source}, line {self.lines[field]}" if field in self.lines else self.source

    def about(self, field: str) -> str:
        """The beginning of a sentence about a field: its place and its name."""
        return f"{self.place(field)}: `{field}`"


def read_declaration(path: Path) -> Declaration:
    """Read a YAML file; raises InvalidInput with the file, the line, and what to write instead."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"There is no file {path}.", fix="See examples/.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from error
    return parse_declaration(text, str(path), path.parent)


def parse_declaration(text: str, source: str, folder: Path) -> Declaration:
    """Read a declaration's text; relative model paths start at ``folder``."""
    root = read_yaml(text, source)
    fields = root.mapping(_TOP)
    for needed in ("name", "model", "audience", "objective"):
        if needed not in fields:
            raise root.wrong(f"`{needed}` is missing.", "See examples/ for what it looks like.")
    model, files = _model(fields["model"], folder)
    service = Service(
        name=_name(fields["name"]),
        revision=0,
        home_cell="",
        model=model,
        audience=read_audience(fields["audience"]),
        objective=_objective(fields["objective"]),
        residency=read_residency(fields["residency"]) if "residency" in fields else Residency(),
        resources=_resources(fields["resources"]) if "resources" in fields else Resources(),
        replicas=_replicas(fields["replicas"]) if "replicas" in fields else ReplicaRange(),
        max_price_microusd_per_hour=_price(fields.get("max_price_usd_per_hour")),
        hedge=fields["hedge"].flag() if "hedge" in fields else True,
        answer_checks=fields["answer_checks"].flag() if "answer_checks" in fields else False,
    )
    lines = {name: field.key_line for name, field in fields.items()}
    return Declaration(service=service, files=files, source=source, lines=lines)


def _name(field: Field) -> str:
    if not NAME.fullmatch(field.text()):
        raise field.wrong(
            f"{field.text()[:80]!r} is not a service name.",
            "Use 1-63 lower-case letters, digits and inner hyphens.",
        )
    return field.text()


def _model(field: Field, folder: Path) -> tuple[Model, dict[str, Path]]:
    fields = field.mapping(_MODEL)
    engine = fields["engine"].choice(ENGINES) if "engine" in fields else "onnx"
    task = fields["task"].choice(get_args(Task)) if "task" in fields else "tensor"
    options = fields["options"].text_map() if "options" in fields else {}
    files = _local_files(field, fields, folder)
    if engine == "upstream" and files:
        raise field.wrong("an upstream model has no files: the provider already runs it.")
    if engine != "upstream" and not files:
        raise field.wrong("names no file.", "Give `path:`, `package:` with `file:`, or `files:`.")
    entries = tuple(_model_file(name, files[name]) for name in sorted(files))
    model = Model(engine=engine, task=task, files=entries, options=options)  # type: ignore[arg-type]
    return model, files


def _local_files(field: Field, fields: dict[str, Field], folder: Path) -> dict[str, Path]:
    sources = [name for name in ("path", "package", "files") if name in fields]
    if len(sources) > 1:
        raise fields[sources[1]].wrong(f"stands beside `{sources[0]}`.", "Keep one of them.")
    if "files" in fields:
        return {
            name: _existing(fields["files"], folder / text)
            for name, text in fields["files"].text_map().items()
        }
    if "package" in fields:
        if "file" not in fields:
            raise field.wrong("`package` needs `file`: the path inside the package.")
        path = _package_folder(fields["package"]) / fields["file"].text()
        return {path.name: _existing(fields["file"], path)}
    if "path" in fields:
        path = folder / fields["path"].text()
        if path.is_dir():
            return {item.name: item for item in sorted(path.iterdir()) if item.is_file()}
        return {path.name: _existing(fields["path"], path)}
    return {}


def _package_folder(field: Field) -> Path:
    """Where an installed package lies; found, never imported."""
    try:
        spec = importlib.util.find_spec(field.text())
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise field.wrong(
            f"no package {field.text()!r} is installed here.", "Install it, or give `path:`."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _existing(field: Field, path: Path) -> Path:
    if not path.is_file():
        raise field.wrong(f"the model file {path} does not exist.")
    return path


def _model_file(name: str, path: Path) -> ModelFile:
    hasher = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_DIGEST_CHUNK_BYTES):
            hasher.update(chunk)
            size += len(chunk)
    return ModelFile(name=name, sha256=hasher.hexdigest(), size_bytes=size)


def _objective(field: Field) -> Objective:
    fields = field.mapping(("latency_ms", "percentile"))
    if "latency_ms" not in fields:
        raise field.wrong("needs `latency_ms`.")
    return Objective(
        latency_ms=fields["latency_ms"].number(0.1, 600_000),
        percentile=fields["percentile"].number(50, 99.9) if "percentile" in fields else 95.0,
    )


def _resources(field: Field) -> Resources:
    fields = field.mapping(("cpus", "memory", "gpu", "gflops_min"))
    default = Resources()
    cpu_milli = default.cpu_milli
    if "cpus" in fields:
        cpu_milli = max(1, round(fields["cpus"].number(0.001, 1024) * 1000))
    gpu, gpu_count = _gpu(fields["gpu"]) if "gpu" in fields else ("", 0)
    memory_mib = _memory_mib(fields["memory"]) if "memory" in fields else default.memory_mib
    gflops_min = math.ceil(fields["gflops_min"].number(0, 1e9)) if "gflops_min" in fields else 0
    return Resources(
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        gpu=gpu,
        gpu_count=gpu_count,
        gflops_min=gflops_min,
    )


def _memory_mib(field: Field) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", field.text().strip())
    if not match or match[2].upper() not in _SIZES_MIB:
        raise field.wrong(f"{field.text()!r} is not a size.", "Write it like 512MiB or 2GiB.")
    memory_mib = round(float(match[1]) * _SIZES_MIB[match[2].upper()])
    if not 1 <= memory_mib <= 16 * 2**20:
        raise field.wrong("must lie between 1 MiB and 16 TiB.")
    return memory_mib


def _gpu(field: Field) -> tuple[str, int]:
    """``H100:2`` -> (``H100``, 2); ``1`` -> any model, one."""
    name, _, count = field.text().strip().partition(":")
    if name.isdigit() and not count:
        name, count = "", name
    if count and not count.isdigit():
        raise field.wrong(f"{field.text()!r} is not a GPU demand.", "Write it like H100:1.")
    if not name and not count:
        return "", 0
    return name, int(count or 1)


def _replicas(field: Field) -> ReplicaRange:
    match = re.fullmatch(r"(\d+)(?:\s*\.\.\s*(\d+))?", field.text().strip())
    low = int(match[1]) if match else 0
    high = int(match[2] or match[1]) if match else 0
    if not 1 <= low <= high <= 1000:
        raise field.wrong("must be like `2` or `2..4` (1 to 1000, the smaller first).")
    return ReplicaRange(min=low, max=high)


def _price(field: Field | None) -> int | None:
    return None if field is None else round(field.number(0.000001, 1e6) * 1e6)
