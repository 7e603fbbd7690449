"""Patients, encounters, observations, medications."""
