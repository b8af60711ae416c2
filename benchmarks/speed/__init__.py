"""What the data plane costs, in CPU, as ratios inside one run: `make bench`."""
