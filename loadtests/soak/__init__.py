"""A relay under churn, rude strangers and kills for as long as one likes, and what it looks like then. `make soak`."""
