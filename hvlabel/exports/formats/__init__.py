"""One module per format, each with a function `write` of the contract."""
