"""Decisions: what is granted, to whom, and who owns it until it ends.

Bytes belong to transports, processes to supervisor.
"""
