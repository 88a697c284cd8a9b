"""What the gateway and its engine processes say to each other."""
