"""Objects that a configuration names as `module:OBJECT`: code that is importable here already."""

import sys
from importlib import import_module
from pathlib import Path


def import_object(path: str, stated: str, kind: str = "OBJECT") -> object:
    """Import the object at `module:OBJECT`; the working directory is searched last.

    Args:
        path: the module's dotted name, a colon, the object's name in it.
        stated: the beginning of messages, which names the config key, the path or both.
        kind: what messages call the object.

    Raises:
        ValueError: the path has another form, or there is no such module or object.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f"{stated}: write it as module:{kind}")
    # A console script does not search the directory that it was started in.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the named module and its parents: an import that fails inside them is the module's own error.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"{stated}: there is no module {error.name!r}; "
            "it must be installed, on PYTHONPATH or in the working directory"
        ) from error
    if not hasattr(module, name):
        raise ValueError(f"{stated}: module {module_name!r} has no {kind} {name!r}")
    return getattr(module, name)
