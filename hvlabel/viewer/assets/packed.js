// Arrays as hvlabel/viewer/packed.py writes them.
const NUMBERS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
  int32: Int32Array, uint32: Uint32Array, float32: Float32Array, float64: Float64Array,
};

async function unpacked(stored) {
  const compressed = Uint8Array.from(atob(stored.data), (c) => c.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const type = NUMBERS[stored.type];
  const size = type.BYTES_PER_ELEMENT;
  const n = planes.length / size;
  const bytes = new Uint8Array(planes.length);
  // the first bytes of all numbers come first, then all second ones
  for (let b = 0; b < size; b++) {
    for (let k = 0; k < n; k++) bytes[k * size + b] = planes[b * n + k];
  }
  return new type(bytes.buffer);
}

async function unpackedLines(stored) {
  const text = new TextDecoder().decode(await unpacked(stored));
  return text === "" ? [] : text.split("\n");
}
