"""The sections of the settings, one module for each; `config` reads and puts them together."""
