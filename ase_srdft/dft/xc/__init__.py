"""Exchange-correlation functionals and their integration."""
