"""Arguments that are paths: a run keeps them absolute, so that it can go on from any folder.

``pathlib.Path`` as an annotation says so, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Located:
    """Marks an argument as the path of a file or a folder.

    It is relative to the working folder or, where that is given, to the argument ``within``.
    With ``or_name`` it may be a name that has nothing to do with files, unless such a file exists.
    ``initial`` are weights to begin with: whoever uses or resumes a run, which has its own, is not
    asked for them.
    """

    within: str | None = None
    or_name: bool = False
    initial: bool = False


FilePath = Annotated[str, Located()]
PathInRoot = Annotated[str, Located(within="root")]
PathOrName = Annotated[str, Located(or_name=True)]
InitialWeights = Annotated[str, Located(initial=True)]
