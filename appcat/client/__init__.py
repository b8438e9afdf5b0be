"""Another appcat, through its daemon's door: the same verbs, the same results, the same errors.

from appcat.client import Client

with Client("ssh://me@build.example.org") as appcat:
    print(appcat.list_vms())
"""

from __future__ import annotations

from appcat.client.client import Client

__all__ = ["Client"]
