"""Networks behind one small interface: image to embedding, points to low-resolution logits, logits to full size."""
