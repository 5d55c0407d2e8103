"""What a world process needs to find the user's code: where Python looks for modules, and the thing itself."""

from __future__ import annotations

import os
import pickle
from multiprocessing import spawn
from typing import Any

from rlforge.errors import ConfigError, boundary

_INSIDE = "RLFORGE_WORLD_PROCESS"
_MAIN = ("init_main_from_name", "init_main_from_path")


def pack(thing: Any) -> bytes:
    """The thing, to be unpacked elsewhere. Raises ConfigError when another process could not find it."""
    if _INSIDE in os.environ:
        raise ConfigError(
            "a world process imported the main file and came upon code that starts world processes itself; "
            'put that code under `if __name__ == "__main__":`'
        )
    try:
        packed = pickle.dumps(thing, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"worlds of {thing!r:.120} cannot live in processes of their own: {error}; "
            "define the class or the factory at the top of a module"
        ) from error
    places = spawn.get_preparation_data("rlforge-world")
    places.pop("authkey", None)  # nothing to prove: the process is reached by a socket that only we hold
    if b"__main__" not in packed:
        places = {name: place for name, place in places.items() if name not in _MAIN}
    return pickle.dumps((places, packed), protocol=5)


def unpack(luggage: bytes) -> Any:
    """The thing, imported as in the process that packed it. Raises ExtensionError when importing it raises."""
    os.environ[_INSIDE] = "1"
    places, packed = pickle.loads(luggage)
    with boundary("importing the environment in its process"):
        spawn.prepare(places)
        return pickle.loads(packed)
