"""Bytes: names, protocols and the edges where they meet the kernel. No relay rule is decided here; actors decide."""
