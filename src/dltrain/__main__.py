"""``python -m dltrain``."""

import os
import sys

if __name__ == "__main__":
    # Python puts the working folder before all else, where a file that is named as a library is
    # would be run in its place. dltrain.config.working_folder finds there what is the user's own.
    if sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 - pathlib is one of those libraries
        del sys.path[0]

    from dltrain.cli import main

    main()
