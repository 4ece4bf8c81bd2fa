"""Life: command line, boot, hardened actor system, process tree, restarts, logs and the admin server."""
