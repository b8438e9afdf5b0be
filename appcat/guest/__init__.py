"""Speaking with what runs inside a guest: SSH, and the resident program that gives it its identity."""
