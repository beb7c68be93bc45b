"""Mailbox-correlation functionals and their integration."""
