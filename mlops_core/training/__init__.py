"""When to train, how to fit, and the gate that a challenger has to pass."""
