"""Export datasets to the file formats of other projects."""
