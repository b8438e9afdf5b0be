"""The files that are the truth, and their locks; nothing here ever asks QEMU anything."""
