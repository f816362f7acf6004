"""Files and stores: atomic writes, and one interface to local folders and remote URLs."""
