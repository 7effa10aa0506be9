"""`python -m saebench`."""

from saebench.cli import main

main()
