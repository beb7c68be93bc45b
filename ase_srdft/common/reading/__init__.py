"""Files into ASE's structures: the file that is named, whole and in its own units, or an error."""
