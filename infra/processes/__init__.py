"""Child processes: how to start and stop one, the laptop stack made of them, one training in a process."""
