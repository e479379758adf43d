"""python -m hvtrain."""

from hvtrain.cli import main

main()
