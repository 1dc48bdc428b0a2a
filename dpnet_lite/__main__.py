"""`python -m dpnet_lite`."""

import sys

from dpnet_lite.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
