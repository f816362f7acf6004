"""Photo files: folders, tar and zip archives, and safe decoding."""
