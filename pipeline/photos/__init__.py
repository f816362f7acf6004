"""Photo files: folders, tar and zip archives, safe decoding."""
