"""Recurrent nets with planted causes, and what is true of them; see tools/verdicts.py."""
