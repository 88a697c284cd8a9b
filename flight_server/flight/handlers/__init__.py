"""One module per family of commands and actions, independent of each other."""
