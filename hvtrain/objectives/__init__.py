"""What a network is trained for: one contract, one file each, one row each in the table."""
