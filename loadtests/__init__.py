"""What the relay costs, measured beside other relays, and what it bears.

`make bench`, `make load` and `make capacity` run it. The relay never imports any of it.
"""
