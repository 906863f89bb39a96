"""What the scripts here share: where the daemon's doors are, and the last line that says what a client saw."""

import json
import sys

# The daemon is on this machine, whatever proxy the environment names.
DOORS = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)


def address(name):
    """Host and port of a door."""
    host, port = DOORS[name].rsplit(":", 1)
    return host, int(port)


def view(user, post, **more):
    """An event that video-actions counts."""
    return {"type": "action", "user_id": user, "resource_type": f"posts:{post}", "action": "view", **more}


def saw(**what):
    """The last line."""
    print(json.dumps(what))
