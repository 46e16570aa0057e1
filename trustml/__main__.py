"""`python -m trustml` is `trustml`."""

from trustml.cli.main import main

main()
