"""``python -m appcat.keeper``: the keeper as a process of its own, without the command line's weight."""

from __future__ import annotations

import logging
import os
import sys

from appcat.app import App
from appcat.errors import AppcatError
from appcat.services.keep import keep


def main() -> int:
    """Keep the home that the environment names; ``--service`` as the host's service manager runs it."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        keep(App.load().context, service="--service" in sys.argv[1:])
    except AppcatError as error:
        logging.getLogger(__name__).error("%s (%s)", error.message, error.hint)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
