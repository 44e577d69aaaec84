"""A declaration: the YAML that a tenant writes, read into a ``Service`` and its local files.

    name: speech-detection
    model: {path: ./silero_vad.onnx, engine: onnx, task: tensor}
    resources: {cpus: 0.5, memory: 512MiB}
    replicas: 0..4
    scaling: {idle: 5m, warm: 1, hold: 20s}
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
from pathlib import Path
from typing import get_args

import msgspec

from isochrone.client.declared_places import read_audience, read_residency
from isochrone.client.declared_replicas import (
    read_priority,
    read_replicas,
    read_resources,
    read_scaling,
)
from isochrone.client.yaml_nodes import Field, read_yaml
from isochrone.schema.errors import InvalidInput
from isochrone.schema.service import (
    NAME,
    Model,
    ModelFile,
    Objective,
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
    "gang",
    "priority",
    "scaling",
)
_MODEL = ("path", "package", "file", "files", "engine", "task", "options")
_DIGEST_CHUNK_BYTES = 1 << 20


class ModelNotHere(InvalidInput):
    """All of the declaration could be read, but its model's files are not on this machine."""


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """A read declaration: the service (revision 0, no home yet) and where its files lie here.

    ``source``: the file it was read from; ``lines``: top-level field -> line. ``absent``: which
    files of the model are not here, as a sentence; then the model has none, and no size.
    """

    service: Service
    files: dict[str, Path]
    source: str
    lines: dict[str, int]
    absent: str = ""

    def place(self, field: str) -> str:
        """``service.yaml, line 7``; only the file when the field is not written in it."""
        return f"{self.source}, line {self.lines[field]}" if field in self.lines else self.source

    def about(self, field: str) -> str:
        """The beginning of a sentence about a field: its place and its name."""
        return f"{self.place(field)}: `{field}`"


def read_declaration(path: Path, *, model_here: bool = True) -> Declaration:
    """Read a YAML file; raises InvalidInput with the file, the line, and what to write instead.

    ``model_here`` False: files of the model that are missing are told by ``absent``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"There is no file {path}.", fix="See examples/.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read: {error}.", fix="Name a YAML file in UTF-8 that you may read."
        ) from error
    return parse_declaration(text, str(path), path.parent, model_here=model_here)


def parse_declaration(
    text: str, source: str, folder: Path, *, model_here: bool = True
) -> Declaration:
    """Read a declaration's text; relative model paths start at ``folder``."""
    root = read_yaml(text, source)
    fields = root.mapping(_TOP)
    for needed in ("name", "model", "audience", "objective"):
        if needed not in fields:
            raise root.wrong(f"`{needed}` is missing.", "See examples/ for what it looks like.")
    model, files, absent = _model(fields["model"], folder, model_here)
    service = Service(
        name=_name(fields["name"]),
        revision=0,
        home_cell="",
        model=model,
        audience=read_audience(fields["audience"]),
        objective=_objective(fields["objective"]),
        residency=read_residency(fields["residency"]) if "residency" in fields else Residency(),
        resources=read_resources(fields.get("resources")),
        replicas=read_replicas(fields.get("replicas"), fields.get("gang")),
        max_price_microusd_per_hour=_price(fields.get("max_price_usd_per_hour")),
        hedge=fields["hedge"].flag() if "hedge" in fields else True,
        answer_checks=fields["answer_checks"].flag() if "answer_checks" in fields else False,
        priority=read_priority(fields.get("priority")),
        scaling=read_scaling(fields.get("scaling"), fields.get("replicas")),
    )
    lines = {name: field.key_line for name, field in fields.items()}
    return Declaration(service=service, files=files, source=source, lines=lines, absent=absent)


def _name(field: Field) -> str:
    if not NAME.fullmatch(field.text()):
        raise field.wrong(
            f"{field.text()[:80]!r} is not a service name.",
            "Use 1-63 lower-case letters, digits and inner hyphens.",
        )
    return field.text()


def _model(field: Field, folder: Path, here: bool) -> tuple[Model, dict[str, Path], str]:
    fields = field.mapping(_MODEL)
    engine = fields["engine"].choice(ENGINES) if "engine" in fields else "onnx"
    task = fields["task"].choice(get_args(Task)) if "task" in fields else "tensor"
    options = fields["options"].text_map() if "options" in fields else {}
    absent = ""
    try:
        files = _local_files(field, fields, folder)
    except ModelNotHere as missing:
        if here:
            raise
        files, absent = {}, missing.message
    if engine == "upstream" and files:
        raise field.wrong("an upstream model has no files: the provider already runs it.")
    if engine != "upstream" and not files and not absent:
        raise field.wrong("names no file.", "Give `path:`, `package:` with `file:`, or `files:`.")
    entries = tuple(_model_file(name, files[name]) for name in sorted(files))
    model = Model(engine=engine, task=task, files=entries, options=options)  # type: ignore[arg-type]
    return model, files, absent


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
        raise _not_here(
            field, f"no package {field.text()!r} is installed here.", "Install it, or give `path:`."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _existing(field: Field, path: Path) -> Path:
    if not path.is_file():
        raise _not_here(field, f"the model file {path} does not exist.")
    return path


def _not_here(field: Field, what: str, fix: str = "") -> ModelNotHere:
    wrong = field.wrong(what, fix)
    return ModelNotHere(wrong.message, fix=wrong.fix)


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


def _price(field: Field | None) -> int | None:
    return None if field is None else round(field.number(0.000001, 1e6) * 1e6)
