"""What the relay costs, measured beside other relays, and what it bears.

`make bench-quick` and `make load` run it. The relay never imports any of it.
"""
