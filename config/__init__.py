"""The settings of the relay as typed tables, and the one way they are loaded.

Never imports from `transports`, `actors` or `supervisor`, and never decides what an address, a peer ID or a subnet
means: the layers that use them parse them and raise `ConfigError` with the key they came from.
"""
