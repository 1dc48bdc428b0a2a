"""`python -m dpnet_lite`."""

import sys

if __name__ == "__main__":
    try:
        from dpnet_lite.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # before `main` could catch it
        sys.exit(130)
