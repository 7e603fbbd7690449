"""A health record on Django; ``manage.py test`` runs its own tests."""
