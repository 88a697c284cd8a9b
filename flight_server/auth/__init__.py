"""Who callers are: users, tokens, certificates; it alone knows their secrets."""
