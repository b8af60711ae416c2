"""Load, kills and the accounts of what arrived, for the tests that crash processes."""
