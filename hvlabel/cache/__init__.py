"""The cache law: a per-image file is valid only if its key matches, is published atomically, and is sealed."""
