"""How many reserved browsers a relay holds, what they cost, and what storms of them do. `make capacity` runs it."""
