"""What appcat talks about, as frozen dataclasses: no input or output happens here."""
