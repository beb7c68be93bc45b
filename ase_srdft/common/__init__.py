"""What every room may use: units, errors, names of elements, files, devices, structures."""
