"""``python -m nightmill`` is the command ``nightmill``."""

from nightmill.cli import main

main()
