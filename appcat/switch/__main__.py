"""``python -m appcat.switch serve RUNTIME HOME BACKEND DESCRIPTOR``, or ``look RUNTIME``, or ``try``."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """What the words ask for."""
    if arguments[0] == "try":
        from appcat.switch import trial

        return trial.main()
    from appcat.switch import serve

    if arguments[0] == "look":
        return serve.show(*arguments[1:])
    runtime, home, backend, descriptor = arguments[1:]
    return serve.main(runtime, home, backend, int(descriptor))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
