// The compact cube: spectra of pixels and planes of bands.

async function openCube(page) {
  const stored = page.cube;
  const planes = await Promise.all(stored.values.map(unpacked));
  const n = page.bands.length;
  const stride = stored.stride_px;
  const height = Math.ceil(page.height / stride);
  const width = Math.ceil(page.width / stride);
  const area = height * width;
  const scale = Math.fround(stored.scale);
  const mean = stored.mean && (await unpacked(stored.mean));
  const basis = stored.basis && (await unpacked(stored.basis));

  function valueAt(band, pixel) {
    const value = planes[0][band * area + pixel];
    // as numpy multiplies float32
    if (stored.kind === "integers") return Math.fround(value * scale);
    return value;
  }
  function ofComponents(band, pixel) {
    let sum = 0;
    for (let k = 0; k < planes.length; k++) sum += planes[k][pixel] * basis[k * n + band];
    return mean[band] + stored.scale * sum;
  }
  const value = stored.kind === "components" ? ofComponents : valueAt;
  return {
    height,
    width,
    stride,
    // of the kept pixel at or before (x, y)
    spectrumAt(x, y) {
      const [column, row] = [Math.floor(x / stride), Math.floor(y / stride)];
      const values = Float64Array.from({ length: n }, (_, band) => value(band, row * width + column));
      return { values, x: column * stride, y: row * stride };
    },
    plane(band) {
      return Float32Array.from({ length: area }, (_, pixel) => value(band, pixel));
    },
  };
}

// [value, value] that become black and white: percentiles 2 and 98 of some thousand pixels
function limitsOf(plane) {
  const step = Math.max(1, Math.floor(plane.length / 5000));
  const sample = plane.filter((_, k) => k % step === 0).sort();
  const at = (share) => sample[Math.min(sample.length - 1, Math.floor(share * sample.length))];
  return [at(0.02), at(0.98)];
}

// ImageData of three planes, with the gamma that the pipeline's pictures have
function falseColour(planes, width, height) {
  const image = new ImageData(width, height);
  planes.forEach((plane, channel) => {
    const [low, high] = limitsOf(plane);
    const range = high - low || 1;
    for (let k = 0; k < plane.length; k++) {
      const share = Math.min(1, Math.max(0, (plane[k] - low) / range));
      image.data[4 * k + channel] = 255 * share ** (1 / 2.2) + 0.5;
      image.data[4 * k + 3] = 255;
    }
  });
  return image;
}
