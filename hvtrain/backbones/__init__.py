"""Networks that can be pre-trained: one contract, one file each, one row each in the table."""
