"""The tensors of an ONNX file, without an ONNX library: the few protobuf fields that hold weights.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto node 1, initializer 5; NodeProto input 1, output 2,
name 3, op_type 4, attribute 5; AttributeProto name 1, t 5; TensorProto dims 1, data_type 2, name 8, raw_data 9.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FLOAT32 = 1  # TensorProto.DataType
VARINT, EIGHT_BYTES, WITH_LENGTH, FOUR_BYTES = 0, 1, 2, 5  # wire types of protobuf
MAX_VARINT_BITS = 64


class OnnxError(ValueError):
    """Not an ONNX file, or one that ends early."""


@dataclass(frozen=True)
class Node:
    """One operation. constant: the tensor of a Constant node that holds float32 values."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constant: np.ndarray | None


@dataclass(frozen=True)
class Graph:
    """The operations in the file's order, and the stored float32 tensors by name."""

    nodes: tuple[Node, ...]
    tensors: dict[str, np.ndarray]


def read_graph(content: bytes) -> Graph:
    """The graph of an ONNX file; OnnxError if it is none or is cut off."""
    graphs = _fields(memoryview(content)).get(7)
    if not graphs:
        raise OnnxError("holds no graph")
    graph = _fields(graphs[0])
    stored = [_tensor(part) for part in graph.get(5, [])]
    tensors = {name: values for name, values in stored if values is not None}
    return Graph(tuple(_node(part) for part in graph.get(1, [])), tensors)


def _node(message: memoryview | int) -> Node:
    fields = _fields(message)
    constant = None
    for attribute in map(_fields, fields.get(5, [])):
        if _text(attribute.get(1)) == "value" and 5 in attribute:
            _, constant = _tensor(attribute[5][0])
    inputs, outputs = (tuple(bytes(part).decode() for part in fields.get(k, [])) for k in (1, 2))
    return Node(_text(fields.get(3)), _text(fields.get(4)), inputs, outputs, constant)


def _tensor(message: memoryview | int) -> tuple[str, np.ndarray | None]:
    """Name and float32 values; None for another type, or for values stored otherwise than raw."""
    fields = _fields(message)
    name = _text(fields.get(8))
    kind = fields.get(2, [None])[0]
    if kind != FLOAT32 or 9 not in fields:
        return name, None
    shape = _shape(fields.get(1, []))
    raw = fields[9][0]
    if isinstance(raw, int):
        raise OnnxError(f"tensor {name!r} has a number for its bytes")
    if len(raw) != 4 * int(np.prod(shape, dtype=np.int64)):
        raise OnnxError(f"tensor {name!r} has {len(raw)} bytes, its shape {shape} needs another number")
    return name, np.frombuffer(raw, "<f4").reshape(shape)


def _shape(parts: list[memoryview | int]) -> tuple[int, ...]:
    """Dimensions, which may be stored one by one or packed."""
    shape: list[int] = []
    for part in parts:
        if isinstance(part, int):
            shape.append(part)
            continue
        at = 0
        while at < len(part):
            value, at = _varint(part, at)
            shape.append(value)
    return tuple(shape)


def _text(parts: list[memoryview | int] | None) -> str:
    if not parts or isinstance(parts[0], int):
        return ""
    return bytes(parts[0]).decode()


def _fields(message: memoryview | int) -> dict[int, list[memoryview | int]]:
    """Field number -> its values in order: numbers, or the bytes of what has a length."""
    if isinstance(message, int):
        raise OnnxError("a number stands where a message should")
    found: dict[int, list[memoryview | int]] = defaultdict(list)
    for number, value in _walk(message):
        found[number].append(value)
    return found


def _walk(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == WITH_LENGTH:
            length, at = _varint(message, at)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if wire == EIGHT_BYTES else 4
        else:
            raise OnnxError("is no protobuf message")
        if at + length > len(message):
            raise OnnxError("ends early")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the place behind it."""
    value = 0
    for shift in range(0, MAX_VARINT_BITS, 7):
        if at >= len(message):
            raise OnnxError("ends early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise OnnxError("is no protobuf message")
