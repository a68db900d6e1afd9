"""`References` -> the bytes of reference files. Pure."""
