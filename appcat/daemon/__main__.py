"""``python -m appcat.daemon``."""

import sys

from appcat.daemon.process import main

if __name__ == "__main__":
    sys.exit(main())
