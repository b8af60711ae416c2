"""Where everything is put together: adapters, command line, serving, page, brokers, manifests.

This room may know everybody. What is decided lives in `mlops_core`; here it is only carried out.
"""
