"""The canary: the relay calls itself from outside every few minutes, and says when that fails.

Off unless `canary.interval_s` is set. It has a process of its own in the tree, which starts `frost-relay check` for
each run and waits for what it finds; py-libp2p's 90 MB are there only while a check runs.
"""
