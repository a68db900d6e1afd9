"""LINDI's bundles in one file: what lies where in a tar. Reads through a `ReadAt`."""
