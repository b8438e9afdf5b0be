"""Making images from recipes and the distribution's own packages, without root."""
