"""YAML with line numbers: a small reader over PyYAML's nodes, so that every error names its line.

``Field`` wraps a YAML node and answers typed questions; a wrong answer raises InvalidInput with
the file's name and the line. Rule: a mapping's keys are checked against what the reader knows, and
an unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import yaml

from isochrone.schema.errors import InvalidInput

YAML_BYTES_MAX = 256 * 1024
"""A declaration is a page of text; more is a mistake (or a bomb of aliases)."""


class Field:
    """A YAML node and the way to it (``audience[0].weight``)."""

    __slots__ = ("_key", "_node", "_source", "way")

    def __init__(
        self, node: yaml.Node, source: str, way: str = "", key: yaml.Node | None = None
    ) -> None:
        self._node = node
        self._key = key or node
        self._source = source
        self.way = way

    @property
    def line(self) -> int:
        """1-based line of the node."""
        return int(self._node.start_mark.line) + 1

    @property
    def key_line(self) -> int:
        """1-based line of the key that it stands under."""
        return int(self._key.start_mark.line) + 1

    def wrong(self, message: str, fix: str = "") -> InvalidInput:
        """The error to raise about this field."""
        where = f"{self._source}, line {self.line}"
        name = f" `{self.way}`" if self.way else ""
        return InvalidInput(f"{where}:{name} {message}", fix=fix)

    def mapping(self, known: Iterable[str]) -> dict[str, Field]:
        """Children by key; refuses unknown and repeated keys."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("must be a mapping (key: value lines).")
        names = sorted(known)
        found: dict[str, Field] = {}
        for key_node, value_node in self._node.value:
            key = str(key_node.value)
            way = f"{self.way}.{key}" if self.way else key
            child = Field(value_node, self._source, way, key_node)
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(names)}."
                raise Field(key_node, self._source, child.way).wrong("is not a known field.", hint)
            if key in found:
                raise child.wrong("stands twice.")
            found[key] = child
        return found

    def items(self) -> list[Field]:
        """Children of a sequence; a single value counts as a sequence of one."""
        if isinstance(self._node, yaml.SequenceNode):
            return [
                Field(node, self._source, f"{self.way}[{index}]")
                for index, node in enumerate(self._node.value)
            ]
        return [self]

    @property
    def is_mapping(self) -> bool:
        """Whether the node is a mapping."""
        return isinstance(self._node, yaml.MappingNode)

    def text_map(self) -> dict[str, str]:
        """A mapping of scalars to scalars, as text."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("must be a mapping (key: value lines).")
        return {
            str(key.value): Field(value, self._source, f"{self.way}.{key.value}").text()
            for key, value in self._node.value
        }

    def text(self) -> str:
        """A scalar as written."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.wrong("must be a single value.")
        return str(self._node.value)

    def number(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``, inclusive."""
        try:
            value = float(self.text())
        except ValueError:
            raise self.wrong(f"must be a number, not {self.text()!r}.") from None
        if not low <= value <= high:
            raise self.wrong(f"must lie between {low:g} and {high:g}, not {value:g}.")
        return value

    def flag(self) -> bool:
        """``true`` or ``false``."""
        value = self.text().lower()
        if value not in ("true", "false"):
            raise self.wrong("must be true or false.")
        return value == "true"

    def choice(self, allowed: Iterable[str]) -> str:
        """One of the allowed words."""
        words = list(allowed)
        if self.text() not in words:
            raise self.wrong(f"must be one of {', '.join(words)}, not {self.text()!r}.")
        return self.text()


def read_yaml(text: str, source: str) -> Field:
    """The root of one YAML document; raises InvalidInput with the line for broken YAML."""
    if len(text) > YAML_BYTES_MAX:
        raise InvalidInput(
            f"{source} is larger than {YAML_BYTES_MAX // 1024} KiB.",
            fix="Name model files by their paths; a declaration is a few lines.",
        )
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_aliases(text, source)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 0
        raise InvalidInput(
            f"{source}, line {line}: not valid YAML ({error.problem}).",
            fix="See examples/ for declarations to start from.",
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(
            f"{source} is not valid YAML: {error}",
            fix="See examples/ for declarations to start from.",
        ) from error
    if node is None:
        raise InvalidInput(
            f"{source} is empty.", fix="See examples/ for declarations to start from."
        )
    return Field(node, source)


def _refuse_aliases(text: str, source: str) -> None:
    """Aliases let a few lines stand for gigabytes; a declaration needs none."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise InvalidInput(
                f"{source}, line {line}: YAML aliases are not accepted.",
                fix="Write the value out where it is used.",
            )
