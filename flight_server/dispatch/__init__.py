"""Starts engine processes and talks to them."""
