"""The command ``dltrain``, and ``python -m dltrain``."""

import os
import sys


def main() -> None:
    """Run the command that was typed, and exit; from the first import on, Ctrl-C ends it."""
    from dltrain.engine import signals

    signals.leave_at_once()
    # Processes that are started afresh (tune's, a launcher's) would have the working folder on
    # their path, and run what is named there as a library is. Python 3.10 does not know of it.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    from dltrain import cli
    from dltrain.engine import runtime

    try:
        cli.main()
    except SystemExit as end:
        runtime.leave_garbage()
        signals.all_done(end.code if isinstance(end.code, int) else 1)
        raise
    except KeyboardInterrupt as error:  # after the command's last word
        sys.exit(signals.exit_code(signals.number_of(error)))


if __name__ == "__main__":
    # Python puts the working folder before all else, where a file that is named as a library is
    # would be run in its place. dltrain.config.working_folder finds there what is the user's own.
    if sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 - pathlib is one of those libraries
        del sys.path[0]

    main()
