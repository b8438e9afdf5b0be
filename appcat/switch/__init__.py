"""The switch: what joins the network cards of vms that are on one private network.

One process per home (``python -m appcat.switch``), started by whoever needs a port (``client``). It has one of two
backends, ``bridge`` (Linux: kernel bridges in a namespace of their own) or ``hub`` (frames by unix sockets, anywhere).
docs/decisions/0012-segments.md argues them. The process imports little: it delays the first vm of a home that has a
network. ``client`` and ``verdict`` are for the rest of appcat.
"""
