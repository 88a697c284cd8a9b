"""Frozen values and the rules about them; no input or output happens here."""
