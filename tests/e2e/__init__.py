"""The whole loop on real data; minutes (`make e2e`)."""
