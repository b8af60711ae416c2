"""Agents: thin. Each reads topics, keeps a state, and returns what follows; they speak through topics only.

What is decided lives in `mlops_core`; what is performed comes in as a port; none imports another.
"""
