"""From a command line to a config: the only package that knows Hydra.

Hydra composes. These rooms let a user's folder win over the built-in one, find every fault of a
command line before a run begins, and know which file set a key.
"""

from dltrain.config.compose.blaming import Blamed, blamed
from dltrain.config.compose.composing import (
    BASIC_SWEEPER,
    Job,
    check,
    compose,
    compose_each,
    is_plain,
    job_of,
    launch,
    unresolved,
)
from dltrain.config.compose.config_files import (
    ConfigFile,
    all_groups,
    choices,
    default_choices,
    defining_file,
    files_of,
    groups,
    origin,
)
from dltrain.config.compose.grammar import as_text, assigned, assignments, first_of
from dltrain.config.compose.hydra_setup import UserFolder, folder_used, use_folder
from dltrain.config.compose.planning import Plan, planned
from dltrain.config.compose.ranges import separate

__all__ = [
    "BASIC_SWEEPER",
    "Blamed",
    "ConfigFile",
    "Job",
    "Plan",
    "UserFolder",
    "all_groups",
    "as_text",
    "assigned",
    "assignments",
    "blamed",
    "check",
    "choices",
    "compose",
    "compose_each",
    "default_choices",
    "defining_file",
    "files_of",
    "first_of",
    "folder_used",
    "groups",
    "is_plain",
    "job_of",
    "launch",
    "origin",
    "planned",
    "separate",
    "unresolved",
    "use_folder",
]
