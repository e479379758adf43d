// Run-length codes as pycocotools writes them, and pixels of masks as pieces of columns.

function runsOf(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift; // negative
    if (runs.length > 2) value += runs[runs.length - 2]; // from the third on, what has changed
    runs.push(value);
  }
  return runs;
}

// Int32Array of x, first y, last y + 1, ...: columns from left to right, each from the top
function piecesOf(counts, height) {
  const pieces = [];
  let pixel = 0;
  runsOf(counts).forEach((length, k) => {
    if (k % 2 === 1) {
      let start = pixel;
      const end = pixel + length;
      while (start < end) {
        const x = Math.floor(start / height);
        const stop = Math.min(end, (x + 1) * height);
        pieces.push(x, start - x * height, stop - x * height);
        start = stop;
      }
    }
    pixel += length;
  });
  return Int32Array.from(pieces);
}

function contains(pieces, x, y) {
  let low = 0;
  let high = pieces.length / 3;
  while (low < high) {
    const middle = (low + high) >> 1;
    const isBefore = pieces[3 * middle] < x || (pieces[3 * middle] === x && pieces[3 * middle + 2] <= y);
    if (isBefore) low = middle + 1;
    else high = middle;
  }
  return low < pieces.length / 3 && pieces[3 * low] === x && pieces[3 * low + 1] <= y;
}

// Calls visit(index of a pixel of the view) for every pixel of a mask that a view of every stride-th pixel shows
function visitView(pieces, stride, viewWidth, visit) {
  for (let k = 0; k < pieces.length; k += 3) {
    if (pieces[k] % stride) continue;
    const x = pieces[k] / stride;
    for (let y = Math.ceil(pieces[k + 1] / stride); y * stride < pieces[k + 2]; y++) visit(y * viewWidth + x);
  }
}
