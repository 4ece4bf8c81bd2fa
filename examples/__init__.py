"""Examples to try, to read and to copy. Nothing of the relay imports them.

This file makes them a package of ours: py-libp2p installs one of the same name.
"""
