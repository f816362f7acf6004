"""The forms in which `mmprep export` hands a dataset to other projects, one module each."""
