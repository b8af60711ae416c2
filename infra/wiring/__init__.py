"""Chooses an implementation for each port from the settings; built-in tables and entry points of packages."""
