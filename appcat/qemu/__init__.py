"""Driving QEMU: what this host can do, the command line, processes, the monitor, the guest agent's wire."""
