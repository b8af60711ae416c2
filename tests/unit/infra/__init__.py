"""Promises of adapters on files, of the page's state, of the command line and the documentation."""
