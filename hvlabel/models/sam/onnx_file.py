"""The tensors of an ONNX file, without an ONNX library: the few protobuf fields that hold weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# field numbers of onnx.proto, by message
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_TENSOR = 1, 5
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME, TENSOR_RAW_DATA = 1, 2, 8, 9
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
    graphs = _fields(memoryview(content)).get(MODEL_GRAPH)
    if not graphs:
        raise OnnxError("holds no graph")
    graph = _fields(graphs[0])
    initializers = graph.get(GRAPH_INITIALIZER, [])
    stored = [_tensor(part) for part in initializers]
    tensors = {name: values for name, values in stored if values is not None}
    nodes = [_node(part) for part in graph.get(GRAPH_NODE, [])]
    return Graph(tuple(nodes), tensors)


def _node(message: memoryview | int) -> Node:
    """An operation from its message."""
    fields = _fields(message)
    constant = None
    for part in fields.get(NODE_ATTRIBUTE, []):
        attribute = _fields(part)
        if _text(attribute.get(ATTRIBUTE_NAME)) == "value" and ATTRIBUTE_TENSOR in attribute:
            _, constant = _tensor(attribute[ATTRIBUTE_TENSOR][0])
    return Node(
        name=_text(fields.get(NODE_NAME)),
        op_type=_text(fields.get(NODE_OP_TYPE)),
        inputs=_texts(fields.get(NODE_INPUT, [])),
        outputs=_texts(fields.get(NODE_OUTPUT, [])),
        constant=constant,
    )


def _tensor(message: memoryview | int) -> tuple[str, np.ndarray | None]:
    """Name and float32 values; None for another type, or for values stored otherwise than raw."""
    fields = _fields(message)
    name = _text(fields.get(TENSOR_NAME))
    data_type = fields.get(TENSOR_DATA_TYPE, [None])[0]
    if data_type != FLOAT32 or TENSOR_RAW_DATA not in fields:
        return name, None
    shape = _shape(fields.get(TENSOR_DIMS, []))
    raw = fields[TENSOR_RAW_DATA][0]
    if isinstance(raw, int):
        raise OnnxError(f"tensor {name!r} has a number for its bytes")
    n_values = int(np.prod(shape, dtype=np.int64))  # 1 of an empty shape: a number
    if len(raw) != 4 * n_values:
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


def _texts(parts: list[memoryview | int]) -> tuple[str, ...]:
    """The strings of a repeated field."""
    return tuple(bytes(part).decode() for part in parts)


def _text(parts: list[memoryview | int] | None) -> str:
    """The string of a field, empty where there is none."""
    if not parts or isinstance(parts[0], int):
        return ""
    return bytes(parts[0]).decode()


def _fields(message: memoryview | int) -> dict[int, list[memoryview | int]]:
    """Field number -> its values in order: numbers, or the bytes of what has a length."""
    if isinstance(message, int):
        raise OnnxError("a number stands where a message should")
    fields: dict[int, list[memoryview | int]] = defaultdict(list)
    for number, value in _walk(message):
        fields[number].append(value)
    return fields


def _walk(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, value) of a message, one after another."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7  # the lowest three bits are the wire type
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
        # a view, no copy: weights are tens of megabytes
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
        if not byte & 0x80:  # the highest bit says that another group follows
            return value, at
    raise OnnxError("is no protobuf message")
