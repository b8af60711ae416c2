"""Chaos: a load that knows what it sent, a supervisor with a reaper, and the accounts at the end."""
