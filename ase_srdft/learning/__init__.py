"""Trainers beside a driver: what a calculator learns from, and when."""
