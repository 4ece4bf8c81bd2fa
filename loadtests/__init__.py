"""What the relay costs, measured beside other relays.

`make bench-quick` runs it. The relay never imports any of it.
"""
