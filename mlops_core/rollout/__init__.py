"""How a version gets traffic: the table of phases, the effects of each, and the verdicts that move it."""
