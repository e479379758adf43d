"""`python -m hvlabel`."""

from hvlabel.cli import main

main()
