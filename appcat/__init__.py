"""appcat: a data center on a laptop."""

__version__ = "0.1.0"
