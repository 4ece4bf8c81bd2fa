"""`frost-relay check ADDRESS`: a relay seen from outside, by an implementation that is not ours (py-libp2p under trio).

The modules `address`, `report` and `causes` are light. The others import trio or py-libp2p, which costs 75 MB: they may
be imported by the process of a check only, never by one of the relay's tree (an import contract in pyproject.toml).
"""
