"""`python -m groundup` is the command `groundup`."""

import sys

from groundup.cli import main

if __name__ == "__main__":
    sys.exit(main())
