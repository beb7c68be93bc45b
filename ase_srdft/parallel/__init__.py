"""Processes, threads and ranks; nothing here knows a molecule."""
