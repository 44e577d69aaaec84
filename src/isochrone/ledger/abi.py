"""Calls, answers, events and refusals of our contracts as bytes, by their committed ABI.

Beyond the plain ABI it knows one thing: signatures. Off chain they are 65 bytes ``r ‖ s ‖ v``; a
contract that takes two words (EIP-2098: ``r``, parity in the top bit of ``s``) gets those.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from isochrone.ledger.artefacts import artefact
from isochrone.ledger.chain import Contract, Event
from isochrone.schema.errors import InvalidInput
from isochrone.schema.identity import compact, keccak256

ERROR_SELECTOR = keccak256(b"Error(string)")[:4]

Item = dict[str, Any]


class Abi:
    """The functions and events of one contract."""

    def __init__(self, name: str) -> None:
        self.name = name
        items = artefact(name).abi
        self._functions: dict[tuple[str, int], Item] = {
            (item["name"], len(item["inputs"])): item
            for item in items
            if item["type"] == "function"
        }
        self._constructor: Item = next(
            (item for item in items if item["type"] == "constructor"), {"inputs": []}
        )
        self._events: dict[bytes, Item] = {
            keccak256(_signature(item).encode()): item for item in items if item["type"] == "event"
        }

    def call(self, function: str, args: Sequence[object]) -> bytes:
        """Call data; raises InvalidInput when the arguments do not fit."""
        item = self._function(function, len(args))
        return keccak256(_signature(item).encode())[:4] + self._encode(function, item, args)

    def construction(self, args: Sequence[object]) -> bytes:
        """Deployment code with the constructor's arguments."""
        code = bytes.fromhex(artefact(self.name).bytecode.removeprefix("0x"))
        return code + self._encode("its constructor", self._constructor, args)

    def answer(self, function: str, arity: int, data: bytes) -> Any:
        """What a view returned: one value, or a tuple; structs as dicts by field.

        Raises ValueError when the bytes are no such answer (an empty one: no contract there).
        """
        outputs = self._function(function, arity)["outputs"]
        try:
            values = decode([_type(output) for output in outputs], data)
        except DecodingError as error:
            raise ValueError(f"{self.name}.{function} returned {len(data)} bytes") from error
        named = [_named(output, value) for output, value in zip(outputs, values, strict=True)]
        return named[0] if len(named) == 1 else tuple(named)

    def event(self, contract: Contract, log: Item) -> Event | None:
        """A log entry decoded; None for an event that the ABI does not know.

        Raises ValueError (or LookupError, TypeError) for an entry that is damaged.
        """
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        item = self._events.get(topics[0]) if topics else None
        if item is None:
            return None
        indexed = [field for field in item["inputs"] if field["indexed"]]
        plain = [field for field in item["inputs"] if not field["indexed"]]
        data = bytes.fromhex(log["data"][2:])
        try:
            values = decode([_type(field) for field in plain], data)
            args = {f["name"]: _named(f, v) for f, v in zip(plain, values, strict=True)}
            for field, topic in zip(indexed, topics[1:], strict=True):
                args[field["name"]] = decode([_type(field)], topic)[0]
        except DecodingError as error:
            raise ValueError(f"a {item['name']} entry is damaged") from error
        return Event(
            contract=contract,
            name=item["name"],
            args=args,
            block=int(log["blockNumber"], 16),
            block_hash=log["blockHash"].lower(),
            index=int(log["logIndex"], 16),
        )

    def _function(self, name: str, arity: int) -> Item:
        item = self._functions.get((name, arity))
        if item is None:
            raise InvalidInput(f"The contract {self.name} has no function {name}/{arity}.")
        return item

    def _encode(self, what: str, item: Item, args: Sequence[object]) -> bytes:
        inputs = item["inputs"]
        try:
            values = [_fitted(field, arg) for field, arg in zip(inputs, args, strict=True)]
            return encode([_type(field) for field in inputs], values)
        except (EncodingError, InvalidInput, ValueError, TypeError, LookupError) as error:
            raise InvalidInput(f"These are no arguments of {self.name}.{what}: {error}.") from error


@lru_cache(maxsize=16)
def abi_of(name: str) -> Abi:
    """The ABI of an artefact."""
    return Abi(name)


def reason(data: bytes) -> str:
    """The words of a revert (``Error(string)``), else empty."""
    if data[:4] != ERROR_SELECTOR:
        return ""
    try:
        return str(decode(["string"], data[4:])[0])
    except (DecodingError, UnicodeDecodeError):
        return ""


def _type(field: Item) -> str:
    kind: str = field["type"]
    if kind.startswith("tuple"):
        inner = ",".join(_type(part) for part in field["components"])
        return f"({inner}){kind.removeprefix('tuple')}"
    return kind


def _signature(item: Item) -> str:
    return f"{item['name']}({','.join(_type(field) for field in item['inputs'])})"


def _named(field: Item, value: Any) -> Any:
    if not field["type"].startswith("tuple"):
        return list(value) if isinstance(value, tuple) else value
    if field["type"].endswith("]"):
        return [_named(field | {"type": "tuple"}, one) for one in value]
    parts = zip(field["components"], value, strict=True)
    return {part["name"]: _named(part, one) for part, one in parts}


def _fitted(field: Item, value: Any) -> Any:
    kind: str = field["type"]
    if kind == "bytes32[2]" and isinstance(value, bytes):
        return compact(value)
    if kind.startswith("bytes32[2][") and all(isinstance(one, bytes) for one in value):
        return [compact(one) for one in value]
    if kind.startswith("tuple") and isinstance(value, dict):
        return tuple(_fitted(part, value[part["name"]]) for part in field["components"])
    return value
