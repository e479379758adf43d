// The picture and the masks on it: two canvases of the view's size, one above the other.

// Kept in memory that scripts can read, not on the graphics card: all that is done is to put pixels
function contextOf(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}

// Neighbours in the list differ by the golden angle
function hueOf(k) {
  return (k * 222.49223) % 360;
}

function rgbOfHue(hue) {
  const channel = (n) => {
    const k = (n + hue / 60) % 6;
    return 255 - 191 * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return [channel(5), channel(3), channel(1)];
}

const GREEN = [40, 220, 90];
const RED = [255, 60, 60];

// items: [{pieces, area, rgb, hollow}]; the smaller lies on the larger
function paintMasks(canvas, items, stride, opacity, selected) {
  const { width, height } = canvas;
  const context = contextOf(canvas);
  const image = context.createImageData(width, height);
  const { data } = image;
  const owner = new Int32Array(width * height); // the mask that was painted last: tells its outline
  const put = (pixel, [r, g, b], alpha) => {
    data[4 * pixel] = r;
    data[4 * pixel + 1] = g;
    data[4 * pixel + 2] = b;
    data[4 * pixel + 3] = alpha;
  };
  const outlineOf = (pieces, serial, visit) => {
    visitView(pieces, stride, width, (pixel) => (owner[pixel] = serial));
    visitView(pieces, stride, width, (pixel) => {
      const x = pixel % width;
      const inside =
        x > 0 && x < width - 1 && pixel >= width && pixel < width * (height - 1) &&
        owner[pixel - 1] === serial && owner[pixel + 1] === serial &&
        owner[pixel - width] === serial && owner[pixel + width] === serial;
      if (!inside) visit(pixel, x + Math.floor(pixel / width));
    });
  };
  const largestFirst = [...items].sort((a, b) => b.area - a.area);
  for (const item of largestFirst) {
    if (!item.hollow) visitView(item.pieces, stride, width, (pixel) => put(pixel, item.rgb, 255 * opacity));
  }
  largestFirst.forEach((item, k) => outlineOf(item.pieces, k + 1, (pixel) => put(pixel, item.rgb, 255)));
  if (selected) {
    const blackAndWhite = (pixel, diagonal) => put(pixel, diagonal % 4 < 2 ? [255, 255, 255] : [0, 0, 0], 255);
    outlineOf(selected.pieces, items.length + 1, blackAndWhite);
  }
  context.putImageData(image, 0, 0);
}

function pictureOf(source) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("a picture of this page cannot be shown"));
    picture.src = source;
  });
}

async function paintPicture(canvas, source) {
  contextOf(canvas).drawImage(await pictureOf(source), 0, 0, canvas.width, canvas.height);
}

// bands: places of red, green and blue
function paintBands(canvas, cube, bands, viewStride) {
  const small = document.createElement("canvas");
  [small.width, small.height] = [cube.width, cube.height];
  const image = falseColour(bands.map((band) => cube.plane(band)), cube.width, cube.height);
  contextOf(small).putImageData(image, 0, 0);
  const context = contextOf(canvas);
  context.imageSmoothingEnabled = false;
  const scale = cube.stride / viewStride;
  context.drawImage(small, 0, 0, cube.width * scale, cube.height * scale);
}
