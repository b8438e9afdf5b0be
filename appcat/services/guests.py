"""What the host tells a guest about itself: the identity it takes at boot, the time."""

from __future__ import annotations

GUEST_PATIENCE = 10.0
